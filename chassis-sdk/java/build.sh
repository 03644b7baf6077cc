#!/bin/sh
# Compiles the Java kit into FOLDER/katamari-chassis.jar, with javac and the Thrift library of the system; no Maven.
#
#   sh build.sh FOLDER
#
# KATAMARI_JARS is the folder with thrift.jar, slf4j-api.jar and slf4j-nop.jar, by default that of Debian's packages.
# The jar of the kit names them, so a program needs only the kit on its class path. slf4j-nop is the last of them and
# gives way to another binding.
set -eu

if [ $# -ne 1 ]; then
  echo 'usage: sh build.sh FOLDER' >&2
  exit 2
fi
kit=$(cd "$(dirname "$0")" && pwd)
jars=${KATAMARI_JARS:-/usr/share/java}
mkdir -p "$1"
out=$(cd "$1" && pwd)
for jar in thrift slf4j-api slf4j-nop; do
  if [ ! -f "$jars/$jar.jar" ]; then
    echo "Cannot find $jars/$jar.jar. Debian: apt-get install libthrift-java libslf4j-java" >&2
    exit 1
  fi
done
work=$(mktemp -d "$out/.build.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
# The kit handles SIGTERM with sun.misc.Signal, of which the compiler warns.
javac -XDignore.symbol.file -Xlint:all,-path,-processing,-serial,-rawtypes -Werror -encoding UTF-8 -source 17 -target 17 \
  -cp "$jars/thrift.jar:$jars/slf4j-api.jar" -d "$work/classes" "$kit"/src/katamari/chassis/*.java
printf 'Class-Path: file://%s/thrift.jar file://%s/slf4j-api.jar file://%s/slf4j-nop.jar\n' "$jars" "$jars" "$jars" \
  >"$work/manifest"
jar --create --file "$work/kit.jar" --manifest "$work/manifest" -C "$work/classes" .
# The rename is atomic, so a program that starts meanwhile never sees half a jar.
mv "$work/kit.jar" "$out/katamari-chassis.jar"
