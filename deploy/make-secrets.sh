#!/bin/sh
# Makes what compose.yaml reads, beside it: secrets/ and .env. What is there already stays as it is.
#
#   deploy/make-secrets.sh simulator    for a try without an account
#   deploy/make-secrets.sh              for real: asks for what VOBIZ_AUTH_ID, VOBIZ_AUTH_TOKEN and CDR_CALLBACK_URL do not say
set -eu
cd "$(dirname "$0")/.."

ask() { # what to ask for; prints the answer
  printf '%s: ' "$1" >&2
  [ ! -t 0 ] || [ "$1" != VOBIZ_AUTH_TOKEN ] || stty -echo
  read -r answer || answer=
  [ ! -t 0 ] || { stty echo; echo >&2; }
  [ -n "$answer" ] || { echo "make-secrets: nothing was given, stopped" >&2; exit 1; }
  printf %s "$answer"
}

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

keep() { # name, content
  [ -e "secrets/$1" ] || printf '%s\n' "$2" >"secrets/$1"
  # Compose mounts each file with the owner and mode it has here, and the service is uid 10001 in its container. So the
  # files are readable for all, and the folder lets nobody through: a container needs no way there, the file is mounted.
  chmod 444 "secrets/$1"
}

# After a try with the simulator, what is kept would be called real: its account, its token, its database with invented calls.
if [ "${1:-}" != simulator ] && [ -e .env ] && grep -q '^COMPOSE_PROFILES=.*simulator' .env; then
  cat >&2 <<'WORDS'
make-secrets: .env is that of a try with the simulator, so nothing was asked for and nothing was changed. To begin for real:
  docker-compose down -v                                   # removes the database of the try with its invented calls
  rm .env secrets/vobiz_auth_token                         # the account, the token and the addresses of the try
  deploy/make-secrets.sh
secrets/postgres_password, database_url and callback_secret are random and may stay.
WORDS
  exit 1
fi

case "${1:-}" in
  simulator) id=MA_SIMULATE token=tok_simulated_main url=http://vobiz-cdr:8080/callbacks/vobiz ;;
  "")
    id=${VOBIZ_AUTH_ID:-} token=${VOBIZ_AUTH_TOKEN:-} url=${CDR_CALLBACK_URL:-}
    [ -e .env ] || [ -n "$id" ] || id=$(ask "VOBIZ_AUTH_ID (MA_…)")
    [ -e .env ] || [ -n "$url" ] || url=$(ask "CDR_CALLBACK_URL (https://…/callbacks/vobiz, exactly as configured at Vobiz)")
    [ -e secrets/vobiz_auth_token ] || [ -n "$token" ] || token=$(ask VOBIZ_AUTH_TOKEN)
    ;;
  *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

kept=
for file in secrets/postgres_password secrets/database_url secrets/vobiz_auth_token secrets/callback_secret .env; do
  [ ! -e "$file" ] || kept="$kept $file"
done
mkdir -p secrets
chmod 700 secrets
keep postgres_password "$(random)"
keep database_url "postgres://vobiz:$(cat secrets/postgres_password)@postgres/vobiz"
keep vobiz_auth_token "$token"
keep callback_secret "$(random)"

if [ ! -e .env ]; then
  {
    echo "VOBIZ_AUTH_ID=$id"
    echo "CDR_CALLBACK_URL=$url"
    [ "${1:-}" != simulator ] || printf '%s\n' COMPOSE_PROFILES=simulator VOBIZ_API_URL=http://simulator:9080 CDR_SWEEP_INTERVAL=20s
  } >.env
fi
[ -z "$kept" ] || echo "make-secrets: kept as they were:$kept" >&2
if [ "${1:-}" = simulator ] && ! grep -q '^COMPOSE_PROFILES=.*simulator' .env; then
  echo "make-secrets: .env was there before and is not one for the simulator: it asks Vobiz itself. For a try use another folder" >&2
fi
echo "make-secrets: secrets/ and .env are there; next: docker-compose up" >&2
