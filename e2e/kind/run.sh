#!/usr/bin/env bash
# From a clone to a job that has run, on a cluster of kind's own: builds the image, installs the chart with a database to
# try things out, runs its test and the README's first job, uninstalls. Needs Docker, Go, Helm and kubectl. What a step that
# fails has left is shown; the cluster is deleted at the end, however that comes about. KEEP=yes leaves it, to look around.
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

deletion() { echo "go -C $here tool kind delete cluster --name $cluster"; }

refuse() {
  echo "$*" >&2
  exit 2
}

require() {
  local missing=() program clusters
  for program in docker go helm kubectl; do
    command -v "$program" >/dev/null || missing+=("$program")
  done
  [ ${#missing[@]} = 0 ] || refuse "not on PATH: ${missing[*]}"
  docker info >/dev/null 2>&1 ||
    refuse 'docker is there, but no Docker daemon answers: start it, or let this user speak to it'
  clusters=$(kind get clusters)
  [[ $'\n'$clusters$'\n' != *$'\n'$cluster$'\n'* ]] ||
    refuse "there is a cluster $cluster already; delete it with: $(deletion)"
}

end() {
  local status=$?
  [ "$status" = 0 ] || show_what_is_there || true
  if [ "${KEEP:-no}" = yes ]; then
    say "kept; look at it with: export KUBECONFIG=$KUBECONFIG"
    say "delete it with: $(deletion)"
    return
  fi
  say 'delete the cluster'
  kind delete cluster --name "$cluster" || true
  rm -f "$KUBECONFIG"
}

show_what_is_there() {
  say 'it failed; this is there'
  kubectl --namespace "$namespace" get pods,jobs,scheduledjobs,workerpools --output wide
  kubectl --namespace "$namespace" get events --sort-by .metadata.creationTimestamp
  kubectl --namespace "$namespace" logs --selector app.kubernetes.io/instance=shop --all-containers --prefix --tail 50
}

create_cluster() {
  KUBECONFIG=$(mktemp) # nobody's own contexts are touched
  export KUBECONFIG
  trap end EXIT
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
