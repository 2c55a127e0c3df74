//! The real binary under a Runtime API of our own, and moto as S3, SNS and SQS: what Lambda and AWS
//! are to the function.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, OnceLock, mpsc},
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use aws_sdk_sqs::types::{Message, QueueAttributeName};
use serde_json::{Value, json};
use tiny_http::{Header, Response, Server};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_mins(1);

/// One moto for all tests of this process.
struct Moto {
    address: String,
    /// Ends when its standard input is closed: with this process.
    _child: Child,
}

fn moto() -> &'static Moto {
    static MOTO: OnceLock<Moto> = OnceLock::new();
    MOTO.get_or_init(Moto::start)
}

impl Moto {
    fn start() -> Self {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let python = root.join(".venv/bin/python");
        assert!(python.exists(), "no .venv: run `make venv` first");
        let mut child = Command::new(python)
            .arg(root.join("scripts/moto_peer.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut address)
            .unwrap();
        Self {
            address: address.trim().to_owned(),
            _child: child,
        }
    }
}

/// A bucket, a topic and a queue subscribed to it, all of one test's own.
pub(crate) struct Aws {
    runtime: tokio::runtime::Runtime,
    pub(crate) s3: aws_sdk_s3::Client,
    sns: aws_sdk_sns::Client,
    sqs: aws_sdk_sqs::Client,
    pub(crate) bucket: String,
    pub(crate) topic_arn: String,
    queue_url: String,
    /// Where S3, SNS and SQS are.
    pub(crate) address: String,
    /// The moto of a test that wants one for itself.
    own: Option<Moto>,
}

impl Aws {
    pub(crate) fn new(name: &str) -> Self {
        Self::at(name, moto().address.clone())
    }

    /// A moto of its own, which other tests don't slow down.
    pub(crate) fn alone(name: &str) -> Self {
        let moto = Moto::start();
        let mut aws = Self::at(name, moto.address.clone());
        aws.own = Some(moto);
        aws
    }

    fn at(name: &str, address: String) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let credentials = aws_sdk_s3::config::Credentials::new("test", "test", None, None, "test");
        let shared = aws_config::SdkConfig::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .region(aws_config::Region::new("us-east-1"))
            .endpoint_url(&address)
            .credentials_provider(aws_sdk_s3::config::SharedCredentialsProvider::new(
                credentials,
            ))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        let s3 = aws_sdk_s3::Client::from_conf(
            aws_sdk_s3::config::Builder::from(&shared)
                .force_path_style(true)
                .build(),
        );
        let sns = aws_sdk_sns::Client::new(&shared);
        let sqs = aws_sdk_sqs::Client::new(&shared);
        let (topic_arn, queue_url) = runtime.block_on(async {
            s3.create_bucket().bucket(name).send().await.unwrap();
            let topic = sns.create_topic().name(name).send().await.unwrap();
            let queue = sqs.create_queue().queue_name(name).send().await.unwrap();
            (topic.topic_arn.unwrap(), queue.queue_url.unwrap())
        });
        let aws = Self {
            runtime,
            s3,
            sns,
            sqs,
            bucket: name.to_owned(),
            topic_arn,
            queue_url,
            address,
            own: None,
        };
        aws.runtime.block_on(async {
            aws.sns
                .subscribe()
                .topic_arn(&aws.topic_arn)
                .protocol("sqs")
                .endpoint(aws.queue_arn().await)
                .send()
                .await
                .unwrap();
        });
        aws
    }

    async fn queue_arn(&self) -> String {
        let attributes = self
            .sqs
            .get_queue_attributes()
            .queue_url(&self.queue_url)
            .attribute_names(QueueAttributeName::QueueArn)
            .send()
            .await
            .unwrap();
        attributes.attributes.unwrap()[&QueueAttributeName::QueueArn].clone()
    }

    pub(crate) fn put(&self, key: &str, body: Vec<u8>) {
        self.put_in(&self.bucket, key, body);
    }

    pub(crate) fn put_in(&self, bucket: &str, key: &str, body: Vec<u8>) {
        self.runtime.block_on(async {
            self.s3
                .put_object()
                .bucket(bucket)
                .key(key)
                .body(body.into())
                .send()
                .await
                .unwrap();
        });
    }

    /// Makes a bucket for the ledger; gives its name.
    pub(crate) fn ledger_bucket(&self) -> String {
        let name = format!("{}-ledger", self.bucket);
        self.runtime
            .block_on(self.s3.create_bucket().bucket(&name).send())
            .unwrap();
        name
    }

    /// The names of all objects in a bucket of at most 1,000.
    pub(crate) fn keys(&self, bucket: &str) -> Vec<String> {
        let listed = self
            .runtime
            .block_on(self.s3.list_objects_v2().bucket(bucket).send());
        let contents = listed.unwrap().contents.unwrap_or_default();
        contents
            .into_iter()
            .filter_map(|object| object.key)
            .collect()
    }

    /// An object's text.
    pub(crate) fn get(&self, bucket: &str, key: &str) -> String {
        self.runtime.block_on(async {
            let object = self.s3.get_object().bucket(bucket).key(key).send().await;
            let bytes = object.unwrap().body.collect().await.unwrap().to_vec();
            String::from_utf8(bytes).unwrap()
        })
    }

    /// Lets the bucket tell the queue of every new object, as S3 does.
    pub(crate) fn notify_queue(&self) {
        use aws_sdk_s3::types::{Event, NotificationConfiguration, QueueConfiguration};
        self.runtime.block_on(async {
            let queue = QueueConfiguration::builder()
                .queue_arn(self.queue_arn().await)
                .events(Event::S3ObjectCreated)
                .build()
                .unwrap();
            self.s3
                .put_bucket_notification_configuration()
                .bucket(&self.bucket)
                .notification_configuration(
                    NotificationConfiguration::builder()
                        .queue_configurations(queue)
                        .build(),
                )
                .send()
                .await
                .unwrap();
        });
    }

    /// Everything in the queue, oldest first.
    pub(crate) fn messages(&self) -> Vec<Message> {
        self.runtime.block_on(async {
            let mut all = Vec::new();
            loop {
                let received = self
                    .sqs
                    .receive_message()
                    .queue_url(&self.queue_url)
                    .max_number_of_messages(10)
                    .send()
                    .await
                    .unwrap();
                let Some(messages) = received.messages.filter(|list| !list.is_empty()) else {
                    return all;
                };
                for message in &messages {
                    self.sqs
                        .delete_message()
                        .queue_url(&self.queue_url)
                        .receipt_handle(message.receipt_handle().unwrap())
                        .send()
                        .await
                        .unwrap();
                }
                all.extend(messages);
            }
        })
    }

    /// The alerts that the topic has passed on: SNS's JSON with `Subject`, `Message` and
    /// `MessageAttributes`.
    pub(crate) fn alerts(&self) -> Vec<Value> {
        self.messages()
            .iter()
            .map(|message| serde_json::from_str(message.body().unwrap()).unwrap())
            .collect()
    }
}

/// What Lambda hears of an invocation.
#[derive(Debug)]
pub(crate) enum Answer {
    Response(Value),
    Error(Value),
}

impl Answer {
    pub(crate) fn response(self) -> Value {
        match self {
            Self::Response(response) => response,
            Self::Error(error) => panic!("{error}"),
        }
    }

    pub(crate) fn error(self) -> Value {
        match self {
            Self::Error(error) => error,
            Self::Response(response) => panic!("{response}"),
        }
    }
}

/// The running function. Dropped, it is killed.
pub(crate) struct Function {
    child: Child,
    events: mpsc::Sender<Value>,
    answers: mpsc::Receiver<Answer>,
    server: Arc<Server>,
    output: Option<JoinHandle<String>>,
}

impl Function {
    pub(crate) fn start(aws: &Aws, variables: &[(&str, &str)]) -> Self {
        Self::start_within(aws, variables, PATIENCE)
    }

    /// Starts the function with `timeout` for each invocation, which nobody enforces.
    pub(crate) fn start_within(aws: &Aws, variables: &[(&str, &str)], timeout: Duration) -> Self {
        let server = Arc::new(Server::http("127.0.0.1:0").unwrap());
        let (events, next_event) = mpsc::channel();
        let (tell, answers) = mpsc::channel();
        let api = Arc::clone(&server);
        std::thread::spawn(move || runtime_api(&api, &next_event, &tell, timeout));
        let mut child = command(aws)
            .env("AWS_LAMBDA_RUNTIME_API", server.server_addr().to_string())
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let output = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        Self {
            child,
            events,
            answers,
            server,
            output: Some(output),
        }
    }

    pub(crate) fn invoke(&self, event: &Value) -> Answer {
        self.events.send(event.clone()).unwrap();
        self.answers.recv_timeout(PATIENCE).unwrap()
    }

    /// Invokes the function, and kills it if it has not answered by then.
    pub(crate) fn invoke_for(&mut self, event: &Value, time: Duration) -> Option<Answer> {
        self.events.send(event.clone()).unwrap();
        let answers = self.answers.recv_timeout(time).ok();
        if answers.is_none() {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
        answers
    }

    /// Ends the function; gives the lines that it wrote, all of them JSON.
    pub(crate) fn stop(mut self) -> Vec<Value> {
        self.child.kill().unwrap();
        let text = self.output.take().unwrap().join().unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
            .collect()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.server.unblock();
    }
}

/// The binary with an environment like Lambda's, and nothing else of this process's.
pub(crate) fn command(aws: &Aws) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_billing-watch-function"));
    command.env_clear().envs(BTreeMap::from([
        ("AWS_LAMBDA_FUNCTION_NAME", "billing-watch"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_ENDPOINT_URL", &aws.address),
        ("ALERT_TOPIC_ARN", &aws.topic_arn),
    ]));
    command
}

/// Serves the Lambda Runtime API until the server is unblocked.
fn runtime_api(
    server: &Server,
    events: &mpsc::Receiver<Value>,
    tell: &mpsc::Sender<Answer>,
    timeout: Duration,
) {
    let mut number = 0;
    for mut request in server.incoming_requests() {
        let url = request.url().to_owned();
        if url.ends_with("/invocation/next") {
            let Ok(event) = events.recv() else { return };
            number += 1;
            let deadline = SystemTime::UNIX_EPOCH.elapsed().unwrap() + timeout;
            let headers = [
                ("Lambda-Runtime-Aws-Request-Id", format!("request-{number}")),
                (
                    "Lambda-Runtime-Deadline-Ms",
                    deadline.as_millis().to_string(),
                ),
                (
                    "Lambda-Runtime-Invoked-Function-Arn",
                    "arn:aws:lambda:us-east-1:999988887777:function:billing-watch".to_owned(),
                ),
            ];
            let mut response = Response::from_string(event.to_string());
            for (name, value) in headers {
                response.add_header(Header::from_bytes(name, value).unwrap());
            }
            let _ = request.respond(response);
            continue;
        }
        let mut body = String::new();
        request.as_reader().read_to_string(&mut body).unwrap();
        let body = serde_json::from_str(&body).unwrap_or(json!(body));
        let _ = request.respond(Response::from_string("{}").with_status_code(202));
        let answers = if url.ends_with("/response") {
            Answer::Response(body)
        } else {
            Answer::Error(body)
        };
        if tell.send(answers).is_err() {
            return;
        }
    }
}
