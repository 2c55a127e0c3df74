"""moto as S3, SNS and SQS on a free loopback port, for tests, the demo and measurements.

Prints its address on one line. Ends when its standard input closes, so it also ends when the program that started it is
killed.
"""

import logging
import sys

from moto.server import ThreadedMotoServer


def serve():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    serve()
