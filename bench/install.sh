#!/bin/sh
# Installs what `npm run bench` needs beyond npm: wrk, HAProxy and nats-server (Debian packages of the same names), a
# C++ compiler, the Thrift compiler, Java with Lucene 8, and a Consul server. Then it installs the packages of
# bench/package.json, compiles the load generator and generates the code of the Thrift server. As root on Debian, it
# installs missing programs with apt-get. Otherwise it lists them and exits with 1.
set -eu

cd "$(dirname "$0")/.."
sh scripts/install-test-tools.sh
PATH=$PATH:/usr/sbin:/sbin
export PATH

missing=''
for program in wrk haproxy nats-server; do
  command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
done
if [ -n "$missing" ]; then
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    printf 'Cannot run the bench. Install these (Debian packages of the same names):%s\n' "$missing" >&2
    exit 1
  fi
  printf 'Installing%s\n' "$missing"
  policy=/usr/sbin/policy-rc.d made=''
  # apt runs this file before it starts a daemon; exit code 101 forbids the start. The bench starts these programs
  # itself.
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made=yes
  fi
  log=$(mktemp)
  # shellcheck disable=SC2086 # a list of words
  if ! (apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing) >"$log" 2>&1; then
    cat "$log" >&2
    printf 'Cannot run the bench: apt-get failed, its output is above. Missing:%s\n' "$missing" >&2
    exit 1
  fi
  rm -f "$log"
  if [ -n "$made" ]; then rm -f "$policy"; fi
fi

if [ ! -f bench/node_modules/.package-lock.json ] || [ bench/package-lock.json -nt bench/node_modules/.package-lock.json ]; then
  printf 'Installing the packages that the bench compares with Katamari\n'
  npm install --prefix bench --no-audit --no-fund --loglevel=error
fi
work=.tools/bench
mkdir -p "$work/gen-nodejs"
if [ ! -f "$work/load" ] || [ bench/load/load.cc -nt "$work/load" ]; then
  printf 'Compiling the load generator\n'
  g++ -std=c++17 -O2 -o "$work/load" bench/load/load.cc
fi
if [ ! -f "$work/gen-nodejs/Echo.js" ] || [ bench/echo.thrift -nt "$work/gen-nodejs/Echo.js" ]; then
  thrift -nowarn --gen js:node -out "$work/gen-nodejs" bench/echo.thrift
  printf '{"type":"commonjs"}\n' >"$work/gen-nodejs/package.json"
fi
