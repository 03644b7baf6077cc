#!/bin/sh
# Installs the tools that the tests need beyond npm: a Consul server, the Thrift compiler, the official Thrift
# libraries of Python, Ruby, C++, Java and Perl with their interpreters and compilers, Lucene 8 and 3.6, promtool,
# chromium, ip (network namespaces), fsfreeze (a disk that does not answer), openssl (certificates) and HAProxy. The
# script looks for each tool in .tools/bin and on PATH. As root on Debian, it installs missing tools with apt-get.
# Otherwise it lists them and exits with 1. With KATAMARI_SWIFT set, OpenStack Swift and memcached are needed too.
# If nothing is missing, it takes a fraction of a second and prints nothing.
#
# Debian dropped Consul after bullseye. The script downloads the bullseye package through a private apt configuration
# under .tools/, derived from the apt sources of this machine. It unpacks only the binary, to .tools/bin/consul, and
# does not change the system.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
tools=$root/.tools
PATH=$tools/bin:$PATH:/usr/sbin:/sbin
export PATH

have() { command -v "$1" >/dev/null 2>&1; }
have_python_thrift() { [ -x /usr/bin/python3 ] && /usr/bin/python3 -c 'import thrift' >/dev/null 2>&1; }
have_ruby_thrift() { have ruby && ruby -e 'require "thrift"' >/dev/null 2>&1; }
# The headers of the library include Boost headers, which its Debian package does not install.
have_cpp_thrift() { have g++ && have cmake && have make && [ -f /usr/include/thrift/Thrift.h ] && [ -f /usr/include/boost/scoped_array.hpp ]; }
have_java_thrift() { have javac && [ -f /usr/share/java/thrift.jar ] && [ -f /usr/share/java/slf4j-nop.jar ]; }
have_lucene8() { [ -n "$(ls /usr/share/java/lucene-core-8*.jar 2>/dev/null)" ] && [ -n "$(ls /usr/share/java/lucene-queryparser-8*.jar 2>/dev/null)" ]; }
have_lucene3() { [ -f /usr/share/java/lucene3-core.jar ]; }
have_swift() { have swift-ring-builder && have swift-proxy-server && have swift-account-server && have swift-container-server && have swift-object-server && have memcached; }
# The library needs Bit::Vector and its generated code needs Class::Accessor. Its Debian package installs neither.
have_perl_thrift() { have perl && perl -MThrift::BinaryProtocol -MClass::Accessor -e 1 >/dev/null 2>&1; }

# Finds the missing tools: their Debian package names in $packages, a readable list in $missing.
look() {
  packages='' missing='' needs_consul=''
  if ! have thrift; then
    packages="$packages thrift-compiler"
    missing="$missing
  thrift: the Thrift compiler, 0.17 or later (Debian package thrift-compiler)"
  fi
  if ! have_python_thrift; then
    packages="$packages python3-thrift"
    missing="$missing
  the Python Thrift library for /usr/bin/python3 (Debian package python3-thrift)"
  fi
  if ! have_ruby_thrift; then
    packages="$packages ruby ruby-thrift"
    missing="$missing
  Ruby with its Thrift library (Debian packages ruby, ruby-thrift)"
  fi
  if ! have_cpp_thrift; then
    packages="$packages g++ cmake make libthrift-dev libboost-dev"
    missing="$missing
  a C++ compiler, CMake, and the C++ Thrift library (Debian packages g++, cmake, make, libthrift-dev, libboost-dev)"
  fi
  if ! have_java_thrift; then
    packages="$packages libthrift-java libslf4j-java"
    have javac || packages="$packages default-jdk-headless"
    missing="$missing
  a Java compiler and the Java Thrift library (Debian packages default-jdk-headless, libthrift-java, libslf4j-java)"
  fi
  if ! have_lucene8; then
    packages="$packages liblucene8-java"
    missing="$missing
  Lucene 8 (Debian package liblucene8-java)"
  fi
  if ! have_lucene3; then
    packages="$packages liblucene3-java"
    missing="$missing
  Lucene 3.6 (Debian package liblucene3-java)"
  fi
  if ! have_perl_thrift; then
    packages="$packages perl libthrift-perl libbit-vector-perl libclass-accessor-perl"
    missing="$missing
  Perl with its Thrift library (Debian packages perl, libthrift-perl, libbit-vector-perl, libclass-accessor-perl)"
  fi
  if ! have promtool; then
    packages="$packages prometheus"
    missing="$missing
  promtool (Debian package prometheus)"
  fi
  if ! have chromium; then
    packages="$packages chromium"
    missing="$missing
  chromium (Debian package chromium)"
  fi
  if ! have ip; then
    packages="$packages iproute2"
    missing="$missing
  ip: makes network namespaces (Debian package iproute2)"
  fi
  if ! have fsfreeze || ! have mkfs.ext4; then
    packages="$packages util-linux e2fsprogs"
    missing="$missing
  fsfreeze and mkfs.ext4: a disk that does not answer (Debian packages util-linux, e2fsprogs)"
  fi
  if ! have openssl; then
    packages="$packages openssl"
    missing="$missing
  openssl: makes certificates (Debian package openssl)"
  fi
  if ! have haproxy; then
    packages="$packages haproxy"
    missing="$missing
  haproxy: the load balancer of docs/observability.md (Debian package haproxy)"
  fi
  if [ -n "${KATAMARI_SWIFT:-}" ] && ! have_swift; then
    packages="$packages swift-proxy swift-account swift-container swift-object python3-swift memcached"
    missing="$missing
  OpenStack Swift and memcached: an S3 server (Debian packages swift-proxy, swift-account, swift-container,
  swift-object, python3-swift, memcached)"
  fi
  if ! have consul; then
    needs_consul=yes
    missing="$missing
  consul: a Consul server, 1.8 or later, on PATH or at .tools/bin/consul"
  fi
}

refuse() {
  printf 'Cannot run the tests: %s. Missing:%s\n' "$1" "$missing" >&2
  exit 1
}

look
[ -n "$missing" ] || exit 0

if [ ! -f /etc/debian_version ] || ! have apt-get; then refuse 'the script can install tools only on Debian'; fi
if [ "$(id -u)" -ne 0 ]; then refuse 'run this script as root to install the missing tools'; fi

DEBIAN_FRONTEND=noninteractive
export DEBIAN_FRONTEND
mkdir -p "$tools/bin"
work=$(mktemp -d "$tools/install.XXXXXX")
policy=/usr/sbin/policy-rc.d
made_policy=''
finish() {
  if [ -n "$made_policy" ]; then rm -f "$policy"; fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM

# Runs a step and prints its output only if it fails.
step() {
  printf '%s\n' "$1"
  shift
  if ! "$@" >"$work/log" 2>&1; then
    cat "$work/log" >&2
    look
    refuse "\"$*\" failed, its output is above"
  fi
}

install_packages() {
  # invoke-rc.d runs this file before it starts a daemon; exit code 101 forbids the start. The tests need promtool
  # and haproxy, but no running servers.
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made_policy=yes
  fi
  # Package lists may be absent (in a fresh image) or outdated.
  step 'Reading the package lists' apt-get update
  # shellcheck disable=SC2086 # a list of words
  step "Installing$packages" apt-get install -y --no-install-recommends $packages
}

# Copies the Debian apt source of this machine with another suite, in the same format, and sets $source_list to the
# file. Prefers Debian's own source files to added ones. Fails if there is none.
derive_source() {
  for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list /etc/apt/sources.list.d/*; do
    [ -f "$file" ] || continue
    case $file in
      *.sources) source_list=$work/derived.sources; derive_stanza "$1" "$file" >"$source_list" ;;
      *.list) source_list=$work/derived.list; derive_line "$1" "$file" >"$source_list" ;;
      *) continue ;;
    esac
    if [ -s "$source_list" ]; then return 0; fi
  done
  return 1
}

# deb822 format: takes the first stanza of Debian's main archive, not of the security archive.
derive_stanza() {
  sed '/^#/d' "$2" | awk -v suite="$1" 'BEGIN { RS = ""; FS = "\n" }
    !done && /(^|\n)Types:[^\n]*deb/ && /(^|\n)Components:[^\n]*main/ && /(^|\n)Suites:/ && !/-security/ && /debian/ {
      for (i = 1; i <= NF; i++) {
        if ($i ~ /^Suites:/) $i = "Suites: " suite
        else if ($i ~ /^Types:/) $i = "Types: deb"
        print $i
      }
      done = 1
    }'
}

# One-line format: deb [options] URI SUITE COMPONENT...
derive_line() {
  awk -v suite="$1" '!done && $1 == "deb" && / main( |$)/ && /debian/ && !/-security/ {
    at = 2
    if ($at ~ /^\[/) { while ($at !~ /\]$/) at++; at++ }
    $(at + 1) = suite
    print
    done = 1
  }' "$2"
}

install_consul() {
  derive_source bullseye || refuse 'found no source of the Debian archive under /etc/apt, which consul is downloaded from'
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/deb" "$work/tree"
  # Let other users enter these directories, in case apt downloads as the user _apt.
  chmod 755 "$work" "$work/deb"
  set -- -o "Dir::Etc::sourcelist=$source_list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists" \
    -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root
  step 'Reading the package list that has consul' apt-get "$@" update
  cd "$work/deb"
  step 'Fetching consul' apt-get "$@" download consul
  cd "$root"
  step 'Unpacking consul' dpkg-deb -x "$work"/deb/consul_*.deb "$work/tree"
  # The rename is atomic, so a second run of this script never sees half a binary.
  mv "$work/tree/usr/bin/consul" "$tools/bin/consul"
}

if [ -n "$packages" ]; then install_packages; fi
if [ -n "$needs_consul" ]; then install_consul; fi

look
if [ -n "$missing" ]; then refuse 'the installation succeeded, but these were still not found'; fi
