"""LocalStack on a free loopback port. Its Lambda runs each function as a process of this machine.

Prints its address on one line. Ends when its standard input closes, so it also ends when the program that started it is
killed. It keeps its files in a temporary directory and deletes that at the end. It appends each line that a function
writes to the file `FUNCTION_LOG`, and each request that a function makes to the file `CALL_LOG`.
"""

import json
import os
import pathlib
import signal
import sys
import tempfile
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))

from local_aws import free_port


def configure(root, port):
    os.environ.update({
        "FILESYSTEM_ROOT": root,
        "TMPDIR": root,
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "LOCALSTACK_HOST": f"127.0.0.1:{port}",
        "OVERRIDE_IN_DOCKER": "0",
        # Use no network but loopback: no telemetry, no certificate download, no DNS server.
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "DNS_ADDRESS": "0",
        # CloudFormation otherwise waits five seconds for each function.
        "LAMBDA_SYNCHRONOUS_CREATE": "1",
        # Retry a failed event at once, where AWS waits a minute, and poll queues ten times a second.
        "LAMBDA_RETRY_BASE_DELAY": "0",
        "LAMBDA_EVENT_SOURCE_MAPPING_POLL_INTERVAL_SEC": "0.1",
        "LAMBDA_EVENT_SOURCE_MAPPING_MAX_BACKOFF_ON_EMPTY_POLL_SEC": "0.1",
        "SQS_ENDPOINT_STRATEGY": "path",
        "LS_LOG": os.environ.get("LS_LOG", "error"),
    })


def run_functions_as_processes():
    """Replaces LocalStack's containers by processes, each with a Runtime API of its own."""
    from lambda_peer import Lambda
    from localstack.services.lambda_.invocation import runtime_executor
    from localstack.services.lambda_.invocation.lambda_models import InvocationResult

    class ProcessExecutor(runtime_executor.RuntimeExecutor):
        instance = None

        def start(self, env_vars):
            code = self.function_version.config.code.get_unzipped_code_location()
            bootstrap = pathlib.Path(code) / "bootstrap"
            bootstrap.chmod(0o755)
            self.instance = Lambda(
                str(bootstrap),
                # LocalStack does not know Account Management.
                {name: str(value) for name, value in env_vars.items()} | {"AWS_ENDPOINT_URL_ACCOUNT": os.environ["ACCOUNT_ADDRESS"]},
                timeout=self.function_version.config.timeout,
                log=open(os.environ["FUNCTION_LOG"], "ab", buffering=0),
            )

        def stop(self):
            if self.instance:
                self.instance.stop()

        def get_address(self):
            return "127.0.0.1"

        get_endpoint_from_executor = get_runtime_endpoint = get_address

        def invoke(self, payload):
            kind, answer = self.instance.invoke(json.loads(payload["payload"]))
            return InvocationResult(payload["invoke-id"], json.dumps(answer).encode(), kind == "error", "")

        def get_logs(self):
            return ""

        @classmethod
        def prepare_version(cls, function_version):
            if function_version.config.code:
                function_version.config.code.prepare_for_execution()

        @classmethod
        def cleanup_version(cls, function_version):
            if function_version.config.code:
                function_version.config.code.destroy_cached()

    # Replace it before a module that uses it is imported.
    runtime_executor.get_runtime_executor = lambda: ProcessExecutor


def resolve_references_without_stack_inspection():
    """Removes a guard against endless recursion, which inspects the stack at every reference and takes most of a deployment's time."""
    from localstack.utils import functions

    # Replace it before the module that uses it is imported.
    functions.prevent_stack_overflow = lambda match_parameters=False: lambda function: function


def leave_alarms_unevaluated():
    """Stops LocalStack from evaluating alarms, which alarms.py does, and from sending `silence` to the alert topic during a test."""
    from localstack.services.cloudwatch import alarm_scheduler

    alarm_scheduler.AlarmScheduler.schedule_metric_alarm = lambda scheduler, alarm_arn: None


def keep_objects_under(root):
    """Moves S3's objects out of the fixed directory that every LocalStack uses and never deletes."""
    from localstack.services.s3 import provider

    provider.DEFAULT_S3_TMP_DIR = f"{root}/s3"


def log_calls_of_functions():
    """Logs the requests that functions make. Their User-Agent names the SDK for Rust, which nothing else here uses."""
    from localstack.aws import handlers

    def log(_, context, response):
        if context.operation and "aws-sdk-rust" in context.request.headers.get("User-Agent", ""):
            parameters = {name: value for name, value in (context.service_request or {}).items() if isinstance(value, str)}
            call = {"service": context.service.service_name, "operation": context.operation.name, "parameters": parameters}
            with open(os.environ["CALL_LOG"], "a") as file:
                file.write(json.dumps(call) + "\n")

    handlers.run_custom_response_handlers.append(log)


def end_with_standard_input():
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main():
    with tempfile.TemporaryDirectory(prefix="localstack-", ignore_cleanup_errors=True) as root:
        tempfile.tempdir = root
        port = free_port()
        configure(root, port)
        keep_objects_under(root)
        run_functions_as_processes()
        resolve_references_without_stack_inspection()
        leave_alarms_unevaluated()
        log_calls_of_functions()
        from localstack.runtime import current
        from localstack.logging.setup import setup_logging_from_config
        setup_logging_from_config()
        runtime = current.initialize_runtime()
        signal.signal(signal.SIGTERM, lambda *_: runtime.exit(0))
        threading.Thread(target=end_with_standard_input, daemon=True).start()

        def announce():
            runtime.ready.wait()
            print(f"http://127.0.0.1:{port}", flush=True)

        threading.Thread(target=announce, daemon=True).start()
        runtime.run()
    # Python takes three more seconds to free what LocalStack has loaded.
    os._exit(0)


if __name__ == "__main__":
    main()
