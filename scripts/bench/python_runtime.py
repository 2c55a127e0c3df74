"""Serves python_handler.py to the Runtime API as Lambda's runtime for Python does: import, ask, handle, reply, ask."""

import http.client
import json
import os

from python_handler import handler

PATH = "/2018-06-01/runtime/invocation/"

if __name__ == "__main__":
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    while True:
        api.request("GET", PATH + "next")
        answer = api.getresponse()
        event = json.loads(answer.read())
        reply = json.dumps(handler(event, None)).encode()
        api.request("POST", f"{PATH}{answer.headers['Lambda-Runtime-Aws-Request-Id']}/response", reply)
        api.getresponse().read()
