//! The Lambda function: reads its environment, then hands each envelope to the pipeline.

// The types of the nested futures are that deep.
#![recursion_limit = "256"]

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::Write as _,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use billing_watch::{
    alert::{AccountNames, Audience, Style},
    aws::{Clients, FunctionLedgerStore, S3LogStore, SnsAlertSink},
    cloudtrail::{Candidates, ScanLimits, Sources},
    config::Config,
    envelope::{Action, Envelope, ErrorType, InvocationError, with_causes},
    ledger::Ledger,
    metrics::emf_line,
    pipeline::{
        CanarySettings, CoverageSettings, Invocation, Pipeline, Settings, Topic, check_coverage,
    },
    report::Report,
    rules::{LoadedRules, RulePack},
};
use jiff::{SignedDuration, Timestamp};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::Value;
use tokio::sync::OnceCell;
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// How long an instance waits for the names of accounts. Without them alerts show ids alone.
const NAMES_TIME: Duration = Duration::from_secs(1);
/// The part of an invocation's time that preparing it may take.
const PREPARATION_SHARE: f64 = 0.8;

type Clock = fn() -> Timestamp;
type FunctionPipeline = Pipeline<S3LogStore, SnsAlertSink, FunctionLedgerStore, Clock>;

/// What lives as long as the function instance.
struct Function {
    config: Config,
    /// Made by the first invocation, so that rules which can't be read fail an invocation and the next
    /// one reads them again.
    prepared: OnceCell<Prepared>,
    warm: AtomicBool,
}

struct Prepared {
    clients: Clients,
    pipeline: FunctionPipeline,
    rules_rejected: u64,
}

fn main() -> ExitCode {
    start_log();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run()),
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Lambda shows a failed start by its log alone.
            tracing::error!(error = format!("{error:#}"), "the function could not start");
            ExitCode::FAILURE
        }
    }
}

/// Starts the log: JSON lines on standard output.
fn start_log() {
    tracing_subscriber::registry()
        .with(
            tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_current_span(true)
                .with_span_list(false),
        )
        // The runtime logs every error that a handler returns, and the SDK every role that it may not
        // assume. Both are logged where they occur. The default hook prints a line for a panic.
        .with(
            Targets::new()
                .with_default(LevelFilter::INFO)
                .with_target("lambda_runtime::layers::panic", LevelFilter::OFF)
                .with_target("aws_config::sts", LevelFilter::OFF),
        )
        .init();
}

async fn run() -> anyhow::Result<()> {
    let config = Config::from_env().context("configuration")?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        minimum_level = %config.alert_topic.minimum_level,
        ledger = config.ledger_bucket.as_deref().unwrap_or(
            "memory of this instance: a record may alert once in each; set LEDGER_BUCKET"
        ),
        "started"
    );
    let function = Function {
        config,
        prepared: OnceCell::new(),
        warm: AtomicBool::new(false),
    };
    let function = &function;
    let serve = lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
        function.handle(event).await.map_err(diagnostic)
    }));
    // On the heap: it holds all of an invocation.
    Box::pin(serve)
        .await
        .map_err(|error| anyhow::anyhow!(error))
}

fn diagnostic(error: InvocationError) -> Diagnostic {
    Diagnostic {
        error_type: error.error_type.to_string(),
        error_message: error.message,
    }
}

impl Function {
    async fn handle(&self, event: LambdaEvent<Value>) -> Result<Value, InvocationError> {
        let cold_start = !self.warm.swap(true, Ordering::Relaxed);
        let (report, response) = match Envelope::parse(&event.payload) {
            Ok(envelope) => {
                self.handle_envelope(&envelope, &invocation(&event.context))
                    .await
            }
            Err(error) => {
                let failure = logged(ErrorType::UnknownEnvelope, error.to_string());
                let report = Report {
                    envelope_problems: 1,
                    ..Report::default()
                };
                (report, Err(failure))
            }
        };
        let name = &event.context.env_config.function_name;
        let line = emf_line(&report, name, cold_start, Timestamp::now());
        // Nothing can be done where standard output is gone.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
        response
    }

    async fn handle_envelope(
        &self,
        envelope: &Envelope,
        invocation: &Invocation,
    ) -> (Report, Result<Value, InvocationError>) {
        let prepared = match self.prepare_before(invocation.deadline).await {
            Ok(prepared) => prepared,
            Err(error) => return (Report::default(), Err(error)),
        };
        let pipeline = &prepared.pipeline;
        let (mut report, outcomes) = match envelope.action() {
            Some(Action::Canary) => {
                let call = async |nonce: &str| prepared.clients.call_canary(nonce).await;
                Box::pin(pipeline.canary(&random(), invocation, call)).await
            }
            Some(Action::Coverage) => {
                let (listing, settings) = (prepared.clients.log_store(), self.coverage());
                let check = check_coverage(&listing, settings.as_ref(), invocation, Timestamp::now);
                Box::pin(check).await
            }
            Some(Action::SelfTest | Action::Unconfirmed) | None => {
                pipeline.handle(envelope, invocation).await
            }
        };
        report.rules_rejected = prepared.rules_rejected;
        let response = envelope.respond(&outcomes, serde_json::json!(report));
        (report, response)
    }

    fn coverage(&self) -> Option<CoverageSettings> {
        let (bucket, prefix) = self.config.coverage.clone()?;
        Some(CoverageSettings {
            bucket,
            prefix,
            days: self.config.coverage_days,
        })
    }

    /// Builds the pipeline on the first invocation, in at most 80% of its time.
    ///
    /// # Errors
    ///
    /// `RulesUnavailable` or `RulesInvalid`; the next invocation tries again.
    async fn prepare_before(
        &self,
        deadline: Option<Timestamp>,
    ) -> Result<&Prepared, InvocationError> {
        let time = deadline.map_or(Duration::MAX, |deadline| {
            let left = deadline.duration_since(Timestamp::now());
            Duration::try_from(left)
                .unwrap_or_default()
                .mul_f64(PREPARATION_SHARE)
        });
        // On the heap: it is needed once.
        let prepared = Box::pin(self.prepared.get_or_try_init(|| self.prepare()));
        tokio::time::timeout(time, prepared)
            .await
            .unwrap_or_else(|_| {
                let message = "reading the rules took too long; put fewer files under RULES_URI, or \
                               raise the function's timeout";
                Err(logged(ErrorType::RulesUnavailable, message.to_owned()))
            })
    }

    async fn prepare(&self) -> Result<Prepared, InvocationError> {
        let config = &self.config;
        let clients = Clients::for_function(config).await;
        let bundled = RulePack::bundled(&config.optional_rules);
        let watched = config.watched(&bundled);
        let (loaded, account_names) = tokio::join!(
            self.load_rules(&clients, bundled),
            self.account_names(&clients)
        );
        let LoadedRules { pack, rejected, .. } = loaded?;
        let rules = pack.identity(Timestamp::now());
        tracing::info!(
            version = rules.version,
            digest = rules.digest,
            rules_replaced = rules.rules_replaced,
            critical_filters = rules.critical_filters,
            "rules loaded"
        );
        log_sources(&pack, &watched);
        let settings = Settings {
            watched,
            topics: self.topics(),
            batch_alerts: config.batch_alerts,
            style: Style {
                withhold_values: config.withhold_values,
                account_names,
                time_zone: config.time_zone.clone(),
            },
            limits: ScanLimits {
                expanded_bytes: config.max_expanded_bytes,
                ..ScanLimits::default()
            },
            canary: config
                .canary_role_arn
                .clone()
                .map(|role_arn| CanarySettings {
                    role_arn,
                    within: SignedDuration::from_mins(config.canary_minutes),
                }),
        };
        let ledger = clients.ledger_store(config.ledger_bucket.as_deref());
        Ok(Prepared {
            pipeline: Pipeline::new(
                clients.log_store(),
                clients.alert_sink(config.topics().map(|topic| &*topic.region)),
                Ledger::new(ledger),
                pack,
                settings,
                Timestamp::now,
            ),
            rules_rejected: rejected.len() as u64,
            clients,
        })
    }

    fn topics(&self) -> Vec<Topic> {
        let config = &self.config;
        let topics = [
            (Audience::People, Some(&config.alert_topic)),
            (Audience::Chat, config.chat_topic.as_ref()),
            (Audience::Machines, config.finding_topic.as_ref()),
        ];
        let topics = topics.into_iter();
        topics
            .filter_map(|(audience, topic)| {
                let topic = topic?;
                Some(Topic {
                    arn: topic.arn.clone(),
                    audience,
                    minimum_level: topic.minimum_level,
                })
            })
            .collect()
    }

    /// Reads the names of accounts. An alert must not wait for them, and goes out without them.
    async fn account_names(&self, clients: &Clients) -> AccountNames {
        let Some(location) = &self.config.account_names else {
            return AccountNames::default();
        };
        let read = tokio::time::timeout(NAMES_TIME, clients.account_names(location)).await;
        let error = match read {
            Ok(Ok(names)) => return names,
            Ok(Err(error)) => with_causes(&*error),
            Err(_) => "reading them took more than a second".to_owned(),
        };
        tracing::warn!(
            error,
            "alerts of this instance show no names of accounts; correct ACCOUNT_NAMES_URI or what it \
             names"
        );
        AccountNames::default()
    }

    /// Loads the pack with the user's rules, and logs what they change.
    async fn load_rules(
        &self,
        clients: &Clients,
        bundled: RulePack,
    ) -> Result<LoadedRules, InvocationError> {
        // Nothing is compiled before a record needs it.
        let bundled = LoadedRules {
            pack: bundled,
            rejected: Vec::new(),
            changes: Vec::new(),
        };
        let Some(location) = &self.config.rules else {
            return Ok(bundled);
        };
        let files = clients.rule_files(location).await.map_err(|error| {
            let causes = with_causes(&error);
            let message = format!("{causes}; correct RULES_URI or what may read it");
            logged(ErrorType::RulesUnavailable, message)
        })?;
        let mut loaded = if files.readable.is_empty() {
            tracing::warn!("RULES_URI holds no .yml or .yaml file");
            bundled
        } else {
            let loaded = RulePack::load(&self.config.optional_rules, &files.readable)
                .map_err(|error| logged(ErrorType::RulesInvalid, error.to_string()))?;
            log_compiled(&loaded.pack);
            loaded
        };
        loaded.rejected.extend(files.rejected);
        for problem in &loaded.rejected {
            tracing::error!(error = %problem, "rule left out");
        }
        for change in &loaded.changes {
            tracing::info!(change, "rules changed");
        }
        Ok(loaded)
    }
}

/// Names this attempt at an event. Lambda keeps the request id for its retries, and may deliver one
/// event to two instances at a time, so the id alone would not do.
///
/// A deadline in the past counts as none: `cargo lambda watch` sends one of 1970.
fn invocation(context: &lambda_runtime::Context) -> Invocation {
    let deadline = i64::try_from(context.deadline)
        .ok()
        .and_then(|milliseconds| Timestamp::from_millisecond(milliseconds).ok());
    Invocation {
        id: format!("{}/{}", context.request_id, random()),
        deadline: deadline.filter(|deadline| *deadline > Timestamp::now()),
    }
}

/// Returns 16 hexadecimal digits that no other call returns.
fn random() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// Logs what slows a pack down, and what has no effect any more.
fn log_compiled(pack: &RulePack) {
    for (rule, why) in pack.unbounded_rules() {
        tracing::warn!(
            rule = rule.id,
            file = rule.file,
            why,
            "every record is parsed, because this rule's text does not tell its sources; name each \
             eventSource in it, without a wildcard or a modifier"
        );
    }
    for filter in pack.expired_filters(Timestamp::now()) {
        tracing::warn!(filter, "a filter has expired; remove it or renew it");
    }
}

/// Logs which sources of rules are not watched, and which watched sources no rule names.
fn log_sources(pack: &RulePack, watched: &Sources) {
    let named = pack.sources();
    let is_watched = |source: &String| watched.matches(Some(&Value::from(source.as_str())));
    let unwatched: Vec<&str> = named
        .iter()
        .filter(|source| !is_watched(source))
        .map(String::as_str)
        .collect();
    if !unwatched.is_empty() {
        tracing::info!(
            sources = unwatched.join(","),
            "sources that rules name and EVENT_SOURCES does not watch: counted, not alerted"
        );
    }
    if let Sources::Only(watched) = watched
        && *pack.candidates() != Candidates::All
    {
        let idle: Vec<&str> = watched
            .iter()
            .filter(|source| !named.contains(*source))
            .map(String::as_str)
            .collect();
        if !idle.is_empty() {
            tracing::warn!(
                sources = idle.join(","),
                "watched sources that no rule names: they can't alert"
            );
        }
    }
}

fn logged(error_type: ErrorType, message: String) -> InvocationError {
    tracing::error!(%error_type, error = message, "invocation failed");
    InvocationError {
        error_type,
        message,
    }
}
