#!/usr/bin/env bash
# From a clone to a job that has run, on a cluster of kind's own: builds the image, installs the chart with a database to
# try things out, runs its test and the README's first job, uninstalls. Needs Docker, Go, Helm and kubectl; the cluster is
# deleted at the end, however that comes about. KEEP=yes leaves it, to look around.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$root/worker/pg_scheduler/__init__.py")
image=pgscheduler:$version
cluster=pgscheduler-e2e
namespace=shop

say() { printf '=== %s\n' "$*"; }

# The release that go.mod names, with the sums of go.sum.
kind() { go -C "$here" tool kind "$@"; }

require() {
  local missing=() program
  for program in docker go helm kubectl; do
    command -v "$program" >/dev/null || missing+=("$program")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    echo "not on PATH: ${missing[*]}" >&2
    exit 2
  fi
  if ! docker info >/dev/null 2>&1; then
    echo 'docker is there, but no Docker daemon answers: start it, or let this user speak to it' >&2
    exit 2
  fi
}

delete_cluster() {
  if [ "${KEEP:-no}" = yes ]; then
    say "kept; delete it with: go -C $here tool kind delete cluster --name $cluster"
    return
  fi
  say 'delete the cluster'
  kind delete cluster --name "$cluster" || true
  rm -f "$KUBECONFIG"
}

create_cluster() {
  KUBECONFIG=$(mktemp) # nobody's own contexts are touched
  export KUBECONFIG
  trap delete_cluster EXIT
  kind create cluster --name "$cluster" --wait 3m
  kind load docker-image "$image" --name "$cluster"
}

build_image() {
  local revision
  revision=$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)
  docker build --tag "$image" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" "$root"
}

install_chart() {
  helm install shop "$root/charts/pgscheduler" --namespace "$namespace" --create-namespace --wait --timeout 5m \
    --set database.dev.enabled=true --set 'worker.apps={pg_scheduler_operator.examples.tasks}'
  helm test shop --namespace "$namespace"
}

run_first_job() {
  kubectl --namespace "$namespace" apply -f "$root/examples/manifests/hello.yaml"
  kubectl --namespace "$namespace" wait --for=condition=Complete scheduledjob/hello --timeout=2m
}

uninstall_chart() {
  helm uninstall shop --namespace "$namespace" --wait
  kubectl delete namespace "$namespace" --timeout=2m
}

require
say "build $image"
build_image
say 'create a cluster and load the image'
create_cluster
say 'install the chart and run its test'
install_chart
say 'run the first job'
run_first_job
say 'uninstall'
uninstall_chart
say 'all is well'
