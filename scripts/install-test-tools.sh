#!/bin/sh
# Sees to it that what the tests need beyond npm is there: a Consul server, the Thrift compiler, the official Thrift
# libraries of Python, Ruby, C++, Java and Perl with what runs or compiles them, promtool, chromium, ip (network
# namespaces) and openssl (certificates). Each is looked for in .tools/bin and on PATH; what is missing is installed
# with apt-get where this runs as root on Debian, else the script ends with 1 and says what to install. Nothing to do
# takes a fraction of a second and prints nothing.
#
# Consul left Debian after bullseye. Its package is fetched from that suite, through a private apt configuration under
# .tools/ made from this machine's own source file, and only the one binary is unpacked (.tools/bin/consul): the
# system stays as it is.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
tools=$root/.tools
PATH=$tools/bin:$PATH:/usr/sbin:/sbin
export PATH

have() { command -v "$1" >/dev/null 2>&1; }
have_python_thrift() { [ -x /usr/bin/python3 ] && /usr/bin/python3 -c 'import thrift' >/dev/null 2>&1; }
have_ruby_thrift() { have ruby && ruby -e 'require "thrift"' >/dev/null 2>&1; }
# Headers of Boost are used by those of the library, and do not come with its Debian package.
have_cpp_thrift() { have g++ && have cmake && have make && [ -f /usr/include/thrift/Thrift.h ] && [ -f /usr/include/boost/scoped_array.hpp ]; }
have_java_thrift() { have javac && [ -f /usr/share/java/thrift.jar ] && [ -f /usr/share/java/slf4j-api.jar ]; }
# Likewise Bit::Vector, which the library is written with, and Class::Accessor, with which its generated code is.
have_perl_thrift() { have perl && perl -MThrift::BinaryProtocol -MClass::Accessor -e 1 >/dev/null 2>&1; }

# What is missing now: Debian package names in $packages, lines for people in $missing.
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
  if ! have openssl; then
    packages="$packages openssl"
    missing="$missing
  openssl: makes certificates (Debian package openssl)"
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

if [ ! -f /etc/debian_version ] || ! have apt-get; then refuse 'this is not Debian, so install these yourself'; fi
if [ "$(id -u)" -ne 0 ]; then refuse 'these can be installed by running this script as root'; fi

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

# Runs a step, quiet unless it fails.
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
  # invoke-rc.d asks this file before it starts a daemon; 101 means no. Prometheus shall be a tool here, not a server.
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made_policy=yes
  fi
  # Package lists may be absent (fresh image) or older than the packages they name.
  step 'Reading the package lists' apt-get update
  # shellcheck disable=SC2086 # a list of words
  step "Installing$packages" apt-get install -y --no-install-recommends $packages
}

# Writes the machine's own Debian source with the suite changed, in the form it was found in, and names the file in
# $source_list. Debian's own files come before those that others have added. Fails when there is none.
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

# deb822: the first stanza that is Debian's main archive (not its security one).
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

# One line: deb [options] URI SUITE COMPONENT...
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
  derive_source bullseye || refuse 'no source of the Debian archive was found under /etc/apt to fetch consul from'
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/deb" "$work/tree"
  # apt drops its rights to the user _apt for downloads, who must be able to enter these.
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
if [ -n "$missing" ]; then refuse 'they were installed and are still not found'; fi
