#!/usr/bin/env bash
# PostgreSQL, S3, MLflow and ZenML on this machine's loopback, without a container engine.
#
#   infra/local-services.sh up      installs what is missing, starts what is down, writes `env`
#   infra/local-services.sh down    stops all of it; the data stays
#   infra/local-services.sh erase   down, and the data too
#
# Everything is in $HEADSTART_SERVICES (.headstart/services here): the servers' own environment, their data,
# their logs, and `env`, which a client sources. Passwords are drawn at the first start, are in files that only
# their owner may read, and reach the servers by environment or file: no command line shows one.
set -euo pipefail
umask 077
cd "$(dirname "$0")/.."
home=$(realpath -m "${HEADSTART_SERVICES:-.headstart/services}")
bin=$home/venv/bin
python=${PYTHON:-python3.11}
if [ "$(id -u)" = 0 ]; then  # PostgreSQL refuses to run as root, and its own user may not enter a home
  database=/var/lib/postgresql/headstart-$(echo "$home" | sha256sum | cut -c1-12)
  as_postgres() { runuser -u postgres -- "$@"; }
else
  database=$home/postgres
  as_postgres() { "$@"; }
fi

provide() {
  if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
    local sudo
    sudo=$([ "$(id -u)" = 0 ] || echo sudo)
    $sudo install -d /etc/postgresql-common
    echo "create_main_cluster = false" | $sudo tee /etc/postgresql-common/createcluster.conf >/dev/null
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends postgresql >/dev/null
  fi
  pg=$(dirname "$(ls /usr/lib/postgresql/*/bin/initdb | sort -V | tail -1)")
  if ! cmp -s infra/services.txt "$home/venv/installed"; then
    "$python" -m venv "$home/venv"
    "$bin/pip" install --quiet --disable-pip-version-check uv
    "$bin/uv" pip sync --quiet --python "$bin/python" infra/services.txt
    cp infra/services.txt "$home/venv/installed"
  fi
}

draw() { "$python" -c 'import secrets; print(secrets.token_hex(24))'; }

free_port() { "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

settle() {  # ports and passwords, once
  [ -f "$home/secrets" ] && return
  for name in POSTGRES S3 MLFLOW ZENML; do
    echo "${name}_PORT=$(free_port)"
    echo "${name}_PASSWORD=$(draw)"
  done > "$home/secrets.new"
  printf 'FLASK_KEY=%s\nJWT_KEY=%s\n' "$(draw)" "$(draw)" >> "$home/secrets.new"
  mv "$home/secrets.new" "$home/secrets"
}

running() { [ -f "$home/$1.pid" ] && kill -0 "$(cat "$home/$1.pid")" 2>/dev/null; }

start() {  # name, command...: in a session of its own, with a log and a pid
  local name=$1; shift
  running "$name" && return
  setsid "$@" >> "$home/$name.log" 2>&1 < /dev/null &
  echo $! > "$home/$name.pid"
}

answers() {  # name, port, path: until the server says something
  for _ in $(seq 240); do
    if "$python" - "$2" "$3" <<'PY'
import http.client, sys
try:
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=5)
    connection.request("GET", sys.argv[2])
    sys.exit(connection.getresponse().status >= 500)
except OSError:
    sys.exit(1)
PY
    then return; fi
    running "$1" || break
    sleep 0.5
  done
  echo "$1 does not answer on port $2; the end of $home/$1.log:" >&2
  tail -5 "$home/$1.log" >&2
  exit 1
}

start_postgres() {
  if [ ! -f "$database/PG_VERSION" ] && ! as_postgres test -f "$database/PG_VERSION"; then
    as_postgres mkdir -p "$database"
    printf '%s' "$POSTGRES_PASSWORD" | as_postgres sh -c "umask 077; cat > '$database.password'"
    as_postgres "$pg/initdb" -D "$database" -U headstart --auth=scram-sha-256 --pwfile="$database.password" \
      -E UTF8 --locale=C.UTF-8 > "$home/postgres.log"
    as_postgres rm "$database.password"
  fi
  as_postgres "$pg/pg_ctl" -D "$database" status >/dev/null && return
  as_postgres "$pg/pg_ctl" -D "$database" -w -s -l "$database/log" \
    -o "-p $POSTGRES_PORT -c listen_addresses=127.0.0.1 -c unix_socket_directories=''" start
  for name in mlflow mlflow_auth optuna; do
    PGPASSWORD=$POSTGRES_PASSWORD "$pg/createdb" -h 127.0.0.1 -p "$POSTGRES_PORT" -U headstart "$name" 2>/dev/null || true
  done
}

start_s3() {
  local meta=sqlite3://$home/s3.db
  [ -f "$home/s3.db" ] || "$bin/juicefs" format --storage file --bucket "$home/s3/" --trash-days 0 "$meta" headstart \
    >> "$home/s3.log" 2>&1
  MINIO_ROOT_USER=headstart MINIO_ROOT_PASSWORD=$S3_PASSWORD start s3 "$bin/juicefs" gateway --multi-buckets \
    --keep-etag --no-usage-report --no-banner --no-agent --no-bgjob --metrics 127.0.0.1:0 --cache-size 0 \
    --cache-dir memory --log "$home/s3.log" "$meta" "127.0.0.1:$S3_PORT"
  answers s3 "$S3_PORT" /minio/health/live
  "$bin/python" - <<'PY'
import boto3
s3 = boto3.client("s3")
known = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
for name in sorted({"mlflow", "zenml", "dvc"} - known):
    s3.create_bucket(Bucket=name)
PY
}

start_mlflow() {
  local server=postgresql+psycopg2://headstart:$POSTGRES_PASSWORD@127.0.0.1:$POSTGRES_PORT
  cat > "$home/mlflow.ini" <<INI
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = $server/mlflow_auth
admin_username = headstart
admin_password = $MLFLOW_PASSWORD
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
INI
  MLFLOW_AUTH_CONFIG_PATH=$home/mlflow.ini MLFLOW_FLASK_SERVER_SECRET_KEY=$FLASK_KEY \
    MLFLOW_BACKEND_STORE_URI=$server/mlflow MLFLOW_ARTIFACTS_DESTINATION=s3://mlflow \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=1 \
    start mlflow "$bin/mlflow" server --app-name basic-auth --host 127.0.0.1 --port "$MLFLOW_PORT" --workers 1
  answers mlflow "$MLFLOW_PORT" /health
}

start_zenml() {  # its own store is SQLite: it knows that and MySQL
  mkdir -p "$home/zenml"
  ZENML_CONFIG_PATH=$home/zenml ZENML_SERVER_AUTO_ACTIVATE=true ZENML_ANALYTICS_OPT_IN=false \
    ZENML_SERVER_DEPLOYMENT_TYPE=other ZENML_SERVER_JWT_SECRET_KEY=$JWT_KEY \
    ZENML_DEFAULT_USER_NAME=headstart ZENML_DEFAULT_USER_PASSWORD=$ZENML_PASSWORD \
    start zenml "$bin/uvicorn" zenml.zen_server.zen_server_api:app --host 127.0.0.1 --port "$ZENML_PORT" \
    --log-level warning --no-server-header
  answers zenml "$ZENML_PORT" /ready
}

register_stack() {  # in ZenML: the local orchestrator, with the artifacts in S3
  [ -f "$home/stack" ] && return
  (
    set -a; . "$home/env"; set +a
    export ZENML_CONFIG_PATH=$home/zenml-client ZENML_ANALYTICS_OPT_IN=false ZENML_LOGGING_VERBOSITY=ERROR
    mkdir -p "$ZENML_CONFIG_PATH"
    "$bin/python" - "$home/stack" <<'PY'
import sys
from pathlib import Path
from zenml.client import Client
from zenml.enums import StackComponentType

client = Client()
store = client.create_stack_component(
    "services", flavor="s3", component_type=StackComponentType.ARTIFACT_STORE, configuration={"path": "s3://zenml"}
)
parts = {StackComponentType.ORCHESTRATOR: "default", StackComponentType.ARTIFACT_STORE: store.id}
Path(sys.argv[1]).write_text(str(client.create_stack("services", parts).id))
PY
  )
}

write_env() {
  mkdir -p "$home/dvc"
  cat > "$home/dvc/config" <<INI
[core]
    remote = services
['remote "services"']
    url = s3://dvc
INI
  cat > "$home/env" <<ENV
# What a client needs; DVC finds its remote by the folder of its global configuration.
export AWS_ACCESS_KEY_ID=headstart AWS_SECRET_ACCESS_KEY=$S3_PASSWORD AWS_DEFAULT_REGION=us-east-1
export AWS_ENDPOINT_URL=http://127.0.0.1:$S3_PORT
export MLFLOW_TRACKING_URI=http://127.0.0.1:$MLFLOW_PORT
export MLFLOW_TRACKING_USERNAME=headstart MLFLOW_TRACKING_PASSWORD=$MLFLOW_PASSWORD
export HEADSTART_STUDY_STORAGE=postgresql+psycopg2://headstart:$POSTGRES_PASSWORD@127.0.0.1:$POSTGRES_PORT/optuna
export ZENML_STORE_URL=http://127.0.0.1:$ZENML_PORT
export ZENML_STORE_USERNAME=headstart ZENML_STORE_PASSWORD=$ZENML_PASSWORD
export DVC_GLOBAL_CONFIG_DIR=$home/dvc
ENV
  [ ! -f "$home/stack" ] || echo "export ZENML_ACTIVE_STACK_ID=$(cat "$home/stack")" >> "$home/env"
}

up() {
  mkdir -p "$home"
  exec 9> "$home/lock"
  flock 9  # two that start at once draw one set of passwords
  provide
  settle
  . "$home/secrets"
  write_env
  eval "$(grep AWS_ "$home/env")"  # the servers are clients of S3, and of nothing else
  unset "${!ZENML_STORE_@}" ZENML_ACTIVE_STACK_ID MLFLOW_TRACKING_URI
  start_postgres 9>&-
  start_s3 9>&-
  start_mlflow 9>&-
  start_zenml 9>&-
  register_stack
  write_env
  echo "running; clients: set -a; . $home/env"
}

stop() {  # name: the whole session, servers and their workers
  running "$1" && kill -- "-$(cat "$home/$1.pid")" 2>/dev/null
  for _ in $(seq 40); do running "$1" || break; sleep 0.25; done
  running "$1" && kill -KILL -- "-$(cat "$home/$1.pid")" 2>/dev/null
  rm -f "$home/$1.pid"
}

down() {
  for name in zenml mlflow s3; do stop "$name" || true; done
  for pg_ctl in /usr/lib/postgresql/*/bin/pg_ctl; do
    [ ! -x "$pg_ctl" ] || as_postgres "$pg_ctl" -D "$database" -m fast -s stop 2>/dev/null || true
  done
}

erase() {
  down
  [ ! -d "$home" ] || find "$home" -mindepth 1 -maxdepth 1 ! -name venv -exec rm -rf {} +
  rm -rf "$database" "$database.password"
}

case "${1:-}" in
  up | down | erase) "$1" ;;
  *) sed -n '2,10p' "$0" >&2; exit 2 ;;
esac
