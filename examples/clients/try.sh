#!/bin/sh
# Calls the samples with curl only: try.sh [http://127.0.0.1:9080]
set -eu
server=${1:-http://127.0.0.1:9080}

call() { # method, parameters as JSON
  printf '%s %s\n  ' "$1" "$2"
  curl -sS "$server/rpc" -H 'content-type: application/json' \
    --data "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"$1\",\"params\":$2}"
  printf '\n'
}

call Calculator.add '{"num1":2,"num2":40}'
call Calculator.add '[2,40]'
call Calculator.calculate '{"logid":1,"w":{"num1":7,"num2":6,"op":"MULTIPLY"}}'
call Calculator.calculate '{"logid":2,"w":{"num1":7,"num2":0,"op":"DIVIDE"}}'
call Reformulate.analyze '{"query":"chaep runing shoes"}'
call Reformulate@2.0.0.suggest '{"word":"tommorow"}'
call Troublemaker.echo '{"bytes":"a2F0YW1hcmk="}'
call Troublemaker.crash '{}'
call Troublemaker.pid '{}'
