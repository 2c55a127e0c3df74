"""moto as an S3 that holds log files and answers late: `moto_history.py FILE NUMBER MILLISECONDS`.

Prints its address once the bucket `BUCKET` holds NUMBER copies of FILE under the names of log files. Ends when its
standard input closes.
"""

import pathlib
import sys
import time

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from werkzeug.serving import WSGIRequestHandler

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import moto_peer

BUCKET = "example-trail-logs"
KEY = "AWSLogs/111122223333/CloudTrail/us-east-1/2026/03/02/111122223333_CloudTrail_us-east-1_20260302T1650Z_{:016d}.json.gz"


def main():
    file, number, milliseconds = sys.argv[1:]
    body = pathlib.Path(file).read_bytes()
    s3 = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    s3.create_bucket(BUCKET, "us-east-1")
    for count in range(int(number)):
        s3.put_object(BUCKET, KEY.format(count), body)
    answer = WSGIRequestHandler.run_wsgi

    def answer_late(handler):
        time.sleep(int(milliseconds) / 1000)
        return answer(handler)

    WSGIRequestHandler.run_wsgi = answer_late
    moto_peer.serve()


if __name__ == "__main__":
    main()
