#!/bin/sh
# Builds the Lucene servers with javac from Debian's packages. Fills FOLDER with programs `lucene` and `lucene3`.
#
#   sh build.sh FOLDER [lucene|lucene3]
#
# Needs: default-jdk-headless libthrift-java libslf4j-java thrift-compiler, liblucene8-java for `lucene`, and
# liblucene3-java for `lucene3`. KATAMARI_JARS is the folder of their jars, by default that of Debian.
set -eu

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  echo 'usage: sh build.sh FOLDER [lucene|lucene3]' >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
repository=$here/../..
jars=${KATAMARI_JARS:-/usr/share/java}
mkdir -p "$1"
out=$(cd "$1" && pwd)

# Prints the jar whose name begins like this, without a version if there is one.
jar_of() {
  for jar in "$jars/$1.jar" "$jars/$1"-[0-9]*.jar; do
    if [ -f "$jar" ]; then
      printf '%s' "$jar"
      return
    fi
  done
  echo "Cannot find $jars/$1.jar. Debian: apt-get install $2" >&2
  exit 1
}

sh "$repository/chassis-sdk/java/build.sh" "$out/lib"
mkdir -p "$out/idl" "$out/content-servers/lucene"
cp "$repository/idl/search.thrift" "$repository/idl/content.thrift" "$out/idl/"
cp "$here/lucene.thrift" "$out/content-servers/lucene/"
work=$(mktemp -d "$out/.build.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
"${THRIFT:-thrift}" -nowarn -r --gen java:generated_annotations=suppress -o "$work" "$here/lucene.thrift"

# Compiles a server and writes its program.
server() {
  name=$1 main=$2 sources=$3 libraries=$4
  mkdir "$work/$name"
  # The generated code has casts that javac notes.
  javac -nowarn -encoding UTF-8 -cp "$out/lib/katamari-chassis.jar:$libraries" -d "$work/$name" \
    "$work"/gen-java/katamari_*/*.java "$here"/src/common/*.java "$here/src/$sources"/*.java 2>"$work/notes" || {
    cat "$work/notes" >&2
    exit 1
  }
  jar --create --file "$work/$name.jar" -C "$work/$name" .
  mv "$work/$name.jar" "$out/lib/$name.jar"
  cat >"$work/$name.sh" <<END
#!/bin/sh
# Serves shards; \`build\` builds them. KATAMARI_LUCENE_CLASSPATH adds jars, JAVA_OPTIONS options of the JVM.
here=\$(cd "\$(dirname "\$0")" && pwd)
exec java -Xshare:auto -XX:SharedArchiveFile="\$here/lib/$name.jsa" \${JAVA_OPTIONS:-} \\
  -Dkatamari.lucene.idl="\$here/content-servers/lucene/lucene.thrift" \\
  -cp "\$here/lib/$name.jar:\$here/lib/katamari-chassis.jar:$libraries\${KATAMARI_LUCENE_CLASSPATH:+:\$KATAMARI_LUCENE_CLASSPATH}" \\
  $main "\$@"
END
  chmod 755 "$work/$name.sh"
  mv "$work/$name.sh" "$out/$name"
}

if [ "${2:-lucene}" = lucene ]; then
  libraries=$(jar_of lucene-core liblucene8-java) || exit 1
  for jar in lucene-analyzers-common lucene-queryparser lucene-backward-codecs; do
    found=$(jar_of "$jar" liblucene8-java) || exit 1
    libraries=$libraries:$found
  done
  server lucene katamari.lucene.Lucene8 lucene8 "$libraries"
fi
if [ "${2:-lucene3}" = lucene3 ]; then
  libraries=$(jar_of lucene3-core liblucene3-java) || exit 1
  server lucene3 katamari.lucene.Lucene3 lucene3 "$libraries"
fi
