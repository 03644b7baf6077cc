"""Which files are read."""

import tempfile
import unittest
from pathlib import Path

from katamari.idl import read_idl


class ReadIdl(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.folder = Path(directory.name)

    def write(self, **files):
        for name, text in files.items():
            path = self.folder / f'{name.replace("__", "/")}.thrift'
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding='utf-8')

    def test_takes_what_is_included_beside_the_including_file_or_from_where_the_main_file_is(self):
        self.write(
            main='include "sub/first.thrift"\nnamespace py x\nservice Main {}',
            sub__first="include 'second.thrift' include \"third.thrift\"",
            sub__second='struct Ä {}',
            third='include "sub/second.thrift"',
        )
        text = read_idl(self.folder / 'main.thrift', 'Main')
        self.assertEqual(text.main, 'main.thrift')
        self.assertEqual(set(text.files), {'main.thrift', 'sub/first.thrift', 'sub/second.thrift', 'third.thrift'})
        self.assertEqual(text.files['sub/second.thrift'], 'struct Ä {}')

    def test_takes_includes_from_folders_after_the_folder_of_the_including_file(self):
        self.write(
            idl__main='include "deep/a.thrift"\nservice Main {}',
            idl__b='wrong',
            one__a='',
            two__b='include "c.thrift" include "../outside.thrift"',
            one__c='',
            two__c='',
            outside='',
        )
        (self.folder / 'one/deep').mkdir()
        (self.folder / 'one/deep/a.thrift').write_text('include "b.thrift" include "../a.thrift"')
        main = self.folder / 'idl/main.thrift'
        text = read_idl(main, 'Main', [self.folder / 'one', str(self.folder / 'two')])
        self.assertEqual(
            set(text.files),
            {'main.thrift', '-I1/deep/a.thrift', '-I1/a.thrift', '-I2/b.thrift', '-I2/c.thrift', '-I2/../outside.thrift'},
        )
        with self.assertRaisesRegex(FileNotFoundError, 'The include folder "none" is neither in '):
            read_idl(main, 'Main', ['none'])

    def test_reads_no_include_of_a_comment_or_a_string(self):
        self.write(
            main="""// include "a.thrift"
            # include "b.thrift"
            /* include
               "c.thrift" // */ const string S = 'include "d.thrift"'
            cpp_include "e.h"
            service Main {} (note = "service Other")"""
        )
        self.assertEqual(list(read_idl(self.folder / 'main.thrift', 'Main').files), ['main.thrift'])

    def test_ends_where_files_include_each_other(self):
        self.write(main='include "other.thrift"\nservice Main {}', other='include "main.thrift"')
        self.assertEqual(len(read_idl(self.folder / 'main.thrift', 'Main').files), 2)

    def test_says_what_is_missing(self):
        self.write(main='include "lost.thrift"\nservice Main {}', lone='service One {}\nservice Two extends One {}')
        with self.assertRaisesRegex(FileNotFoundError, 'main.thrift includes "lost.thrift", which was not found'):
            read_idl(self.folder / 'main.thrift', 'Main')
        with self.assertRaisesRegex(ValueError, 'has no service "Main"; it has One, Two'):
            read_idl(self.folder / 'lone.thrift', 'Main')
        with self.assertRaisesRegex(
            FileNotFoundError, 'Cannot read the IDL file "nowhere.thrift": it is neither in .* nor beside'
        ):
            read_idl('nowhere.thrift', 'Main')
