# frozen_string_literal: true

# Reads the text of an interface: the main IDL file and its includes, by name. Includes are found as the Thrift
# compiler finds them: beside the including file, then in the include folders; then beside the main file. Only
# `include` and `service` are parsed here; the mesh checks the rest. It finds the files of the n-th include folder by
# their names, `-In/PATH` (core/idl/source.ts).

require 'pathname'

module Katamari
  class IdlText
    FILES_MAX = 100
    TOKEN = %r{//[^\n]*|\#[^\n]*|/\*.*?\*/|"[^"]*"|'[^']*'|[\w.]+|\S}m.freeze
    ROOT = %r{\A-I\d{1,3}/}.freeze
    private_constant :TOKEN, :ROOT

    # Name of the main file, and texts by name.
    attr_reader :main, :files

    # Raises ArgumentError if a file is missing or the main file has no such service.
    def self.read(path, service, includes = [])
      new(path, includes).tap { |text| text.check_service(service) }
    end

    def initialize(path, includes = [])
      @folder = Pathname(path).dirname
      @folders = includes.each_with_index.to_h { |folder, n| ["-I#{n + 1}/", Pathname(folder)] }
      missing = @folders.values.find { |folder| !folder.directory? }
      raise ArgumentError, "The include folder #{missing.to_s.inspect} does not exist, or is not a folder" if missing

      @main = File.basename(path)
      @files = {}
      load(@main) || raise(ArgumentError, "Cannot read the IDL file #{path.to_s.inspect}: there is no such file")
    end

    def check_service(name)
      services = tokens(files.fetch(main)).each_cons(2).select { |word, _| word == 'service' }.map(&:last)
      return if services.include?(name)

      raise ArgumentError, "#{main} has no service #{name.inspect}; it has #{services.empty? ? 'none' : services.join(', ')}"
    end

    private

    # Loads a file and its includes. Returns false if there is no such file.
    def load(name)
      return true if files.key?(name)

      path = path_of(name)
      return false unless path.file?
      raise ArgumentError, "#{main} includes more than #{FILES_MAX} files, which is the limit" if files.size >= FILES_MAX

      files[name] = path.read(encoding: Encoding::UTF_8)
      includes(files[name]).each { |wanted| include_from(name, wanted) }
      true
    end

    def include_from(name, wanted)
      root = name[ROOT] || ''
      beside = root + Pathname(name.delete_prefix(root)).dirname.join(wanted).cleanpath.to_s
      plain = Pathname(wanted).cleanpath.to_s
      names = [beside, *@folders.keys.map { |prefix| prefix + plain }, plain].uniq
      return if names.any? { |found| load(found) }

      raise ArgumentError, "#{name} includes #{wanted.inspect}, which was not found; looked for #{names.join(' and ')} in #{@folder}"
    end

    def path_of(name)
      root = name[ROOT]
      @folders.key?(root) ? @folders[root].join(name.delete_prefix(root)) : @folder.join(name)
    end

    def includes(text)
      tokens(text).each_cons(2).select { |word, path| word == 'include' && path.start_with?('"', "'") }.map { |_, path| path[1..-2] }
    end

    def tokens(text)
      text.scan(TOKEN).reject { |token| token.start_with?('//', '#', '/*') }
    end
  end
end
