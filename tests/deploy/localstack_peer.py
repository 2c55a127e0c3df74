"""LocalStack on a free loopback port, whose Lambda runs functions as processes of this machine.

Prints its address on a line of its own, and ends when its standard input does: whoever started it
can't leave it behind, not even when killed. All its files are under a directory that ends with it.
Each line that a function writes is appended to the file named by `FUNCTION_LOG`, each request that it makes to
the one named by `CALL_LOG`.
"""

import json
import os
import pathlib
import signal
import socket
import sys
import tempfile
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def configure(root, port):
    os.environ.update({
        "FILESYSTEM_ROOT": root,
        "TMPDIR": root,
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "LOCALSTACK_HOST": f"127.0.0.1:{port}",
        "OVERRIDE_IN_DOCKER": "0",
        # Nothing but loopback: no telemetry, no certificate, no name server.
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "DNS_ADDRESS": "0",
        # Lambda's minutes between tries, in a test's time.
        "LAMBDA_RETRY_BASE_DELAY": "1",
        "LAMBDA_EVENT_SOURCE_MAPPING_MAX_BACKOFF_ON_EMPTY_POLL_SEC": "1",
        "SQS_ENDPOINT_STRATEGY": "path",
        "LS_LOG": os.environ.get("LS_LOG", "error"),
    })


def run_functions_as_processes():
    """LocalStack runs a function in a container; here it is a process under a Runtime API."""
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
                {name: str(value) for name, value in env_vars.items()},
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

    # Before anything that asks for it is imported.
    runtime_executor.get_runtime_executor = lambda: ProcessExecutor


def keep_objects_under(root):
    """S3's objects have a fixed place in LocalStack, which two of them at a time would share, and leave behind."""
    from localstack.services.s3 import provider

    provider.DEFAULT_S3_TMP_DIR = f"{root}/s3"


def log_calls_of_functions():
    """Notes what functions ask AWS for; they are known by the SDK that they are written with."""
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


if __name__ == "__main__":
    main()
