#!/bin/sh
# Builds the kit and both examples into FOLDER, by default `build` beside this script.
#
#   sh build.sh && katamari up
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/build}
sh "$here/../build.sh" "$out"
for idl in shop speller; do
  "${THRIFT:-thrift}" --gen java:generated_annotations=suppress -o "$out" "$here/$idl.thrift"
done
# The generated code has a few casts that javac notes.
javac -nowarn -XDignore.symbol.file -encoding UTF-8 -cp "$out/katamari-chassis.jar" \
  -d "$out/classes" "$out"/gen-java/*/*.java "$here"/*.java
