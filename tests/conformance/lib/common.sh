# sourced by the runners
HERE=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
TOP=$(cd "$HERE/../.." && pwd)
CONF_VENV=${CONF_VENV:-$TOP/.build/conformance}
PYTHON=${CONF_PYTHON:-$TOP/.venv/bin/python}
[ -x "$PYTHON" ] || PYTHON=python3
CONF_OUT=${CONF_OUT:-$PWD/conformance-results}
mkdir -p "$CONF_VENV" "$CONF_OUT"
CONF_OUT=$(cd "$CONF_OUT" && pwd)

need_cloud() {
  : "${OS_AUTH_URL:?set OS_AUTH_URL}" "${OS_USERNAME:?set OS_USERNAME}" "${OS_PASSWORD:?set OS_PASSWORD}"
}

# venv NAME PACKAGE...: make $CONF_VENV/NAME with these packages, once
venv() {
  local name=$1; shift
  local v=$CONF_VENV/$name stamp
  stamp=$(printf '%s\n' "$@" | sha256sum | cut -c1-16)
  if [ ! -e "$v/.stamp-$stamp" ]; then
    [ -x "$v/bin/python" ] || "$PYTHON" -m venv "$v"
    "$v/bin/pip" -q install -U pip setuptools wheel >&2
    "$v/bin/pip" -q install "$@" >&2 || { echo "install failed: $*" >&2; return 1; }
    touch "$v/.stamp-$stamp"
  fi
  VENV=$v
}

# sdist NAME SPEC: unpack the source archive of a package, once; sets SDIST
sdist() {
  local name=$1 spec=$2 d=$CONF_VENV/src/$1
  if [ ! -e "$d/.done" ]; then
    rm -rf "$d"; mkdir -p "$d"
    venv dl 'setuptools>=77' 'pbr>=7' setuptools_scm || return 1
    "$VENV/bin/pip" -q download --no-deps --no-binary :all: --no-build-isolation -d "$d" "$spec" >&2 || return 1
    tar -xzf "$d"/*.tar.gz -C "$d" --strip-components 1 && touch "$d/.done"
  fi
  SDIST=$d
}

pyver_site() { "$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])'; }

cloud() { "$PYTHON" "$HERE/lib/cloud.py" "$@"; }
