#!/bin/sh
# Runs the tests under another runtime: `sh scripts/test-on.sh bun` or `deno`. All that the runtime can make a difference to: left out are the
# tests of the repository and of the test kit, those of programs in other languages, and most of those with many machines, which take minutes.
set -eu

cd "$(dirname "$0")/.."
export KATAMARI_FUZZ_INPUTS="${KATAMARI_FUZZ_INPUTS:-20000}" KATAMARI_FUZZ_MESH_INPUTS="${KATAMARI_FUZZ_MESH_INPUTS:-2000}"

rooms='test/chassis-sdk test/contract test/faceplates test/fuzz test/mesh test/services test/acceptance'
left_out='test/chassis-sdk/kits/** test/acceptance/cluster/** test/acceptance/matrix.test.ts test/acceptance/clients.test.ts test/acceptance/stock-servers.test.ts'
machines='test/acceptance/cluster/manager-killed.test.ts test/acceptance/cluster/rolling.test.ts'

# The patterns are for the runner, not for this shell.
set -f
case ${1-} in
bun)
  ignore=''
  for pattern in $left_out; do ignore="$ignore --path-ignore-patterns $pattern"; done
  # shellcheck disable=SC2086 # lists of words
  node_modules/.bin/bun test --timeout 60000 --parallel=2 $ignore $rooms
  # shellcheck disable=SC2086 # lists of words
  node_modules/.bin/bun test --timeout 60000 $machines
  ;;
deno)
  ignore=''
  for pattern in $left_out; do ignore="$ignore --exclude $pattern"; done
  # shellcheck disable=SC2086 # lists of words
  node_modules/.bin/deno run -A node_modules/vitest/vitest.mjs run $ignore $rooms
  # shellcheck disable=SC2086 # lists of words
  node_modules/.bin/deno run -A node_modules/vitest/vitest.mjs run --no-file-parallelism $machines
  ;;
*)
  printf 'usage: sh scripts/test-on.sh bun|deno\n' >&2
  exit 2
  ;;
esac
