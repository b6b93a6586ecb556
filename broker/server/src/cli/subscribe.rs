//! `wasmqtt sub`: subscribes, prints what comes, and connects again when the connection is lost.
//! What must not live here: packets, how a message is shown.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::sleep;
use wasmqtt_core::reason::{ReasonCode, Version};
use wasmqtt_core::topic::TopicFilter;

use crate::cli::arguments::clients::Subscribe as SubscribeArguments;
use crate::cli::client::{Interrupts, Plan, plan};
use crate::cli::failure::Failure;
use crate::cli::format::{Format, Piece};
use crate::cli::output::{note, reader_gone};
use crate::client::error::{ClientError, Reason};
use crate::client::packet::Publish;
use crate::client::property::Place;
use crate::client::session::{Client, Event};
use crate::clock;

/// The pause before the first attempt to connect again, doubled up to the last.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_LAST: Duration = Duration::from_secs(30);

/// Bytes that are printed at once.
const PRINTED_BYTES: usize = 64 * 1024;

/// Subscribes until there is a reason to end.
pub(crate) async fn run(
    arguments: SubscribeArguments,
    directory: Option<PathBuf>,
    as_json: bool,
) -> Result<ExitCode, Failure> {
    let mut wanted = Wanted::new(&arguments, as_json)?;
    let timeout = arguments.timeout;
    let plan = plan(&arguments.server, arguments.session, directory.as_ref())?;
    if wanted.filters.is_empty() {
        let topic = plan.server.topic.clone().filter(|_| wanted.unsubscribe.is_empty());
        match topic {
            Some(topic) => wanted.add(&topic)?,
            None if wanted.unsubscribe.is_empty() => {
                return Err(Failure::start("which topics?")
                    .hint("name them: -t FILTER, or behind the host in -L URL"));
            }
            None => {}
        }
    }
    if !plan.server.connect.version.is_v5() && (arguments.no_local || arguments.retain_as_published)
    {
        return Err(Failure::start("only MQTT 5 has --no-local and --retain-as-published")
            .hint("leave out -V, or these"));
    }
    let mut interrupts = Interrupts::new()?;
    let over = async {
        match timeout {
            Some(seconds) => sleep(Duration::from_secs_f64(seconds)).await,
            None => std::future::pending().await,
        }
    };
    let mut client = None;
    let result = tokio::select! {
        biased;
        () = interrupts.next() => Ok(()),
        result = wanted.serve(&plan, &mut client) => result,
        () = reader_gone() => Ok(()),
        () = over => Err(Failure::timed_out("timed out")),
    };
    if let Some(client) = client {
        client.disconnect(&plan.of(Place::Disconnect)).await;
    }
    result.map(|()| ExitCode::SUCCESS)
}

/// What is asked for.
struct Wanted {
    /// With their Subscription Options.
    filters: Vec<(String, u8)>,
    options: u8,
    unsubscribe: Vec<String>,
    left_out: Vec<TopicFilter>,
    format: Format,
    no_retained: bool,
    retained_only: bool,
    exit_after_subscribe: bool,
    /// Messages that are still to come.
    left: Option<u64>,
    printed: Vec<u8>,
}

/// Why printing or a connection came to its end.
enum End {
    /// All that was asked for was done.
    Done,
    Lost(ClientError),
    Failed(Failure),
}

impl From<ClientError> for End {
    fn from(error: ClientError) -> Self {
        Self::Lost(error)
    }
}

impl Wanted {
    fn new(arguments: &SubscribeArguments, as_json: bool) -> Result<Self, Failure> {
        let bare = arguments.no_newline;
        let format = match &arguments.format {
            Some(_) if as_json => {
                return Err(Failure::start("--json and -F exclude each other"));
            }
            Some(format) => {
                let pieces =
                    Piece::parse(format).map_err(|error| Failure::start(format!("-F: {error}")))?;
                Format::Pieces(pieces)
            }
            None if as_json => Format::Json,
            None if arguments.verbose => Format::Verbose { bare },
            None => Format::Payload { bare },
        };
        // Retain Handling 2: none of those that are there [MQTT 3.8.3.1].
        let handling = if arguments.no_retained { 2 } else { 0 };
        let options = arguments.qos
            | u8::from(arguments.no_local) << 2
            | u8::from(arguments.retain_as_published) << 3
            | handling << 4;
        let left_out: Result<Vec<_>, _> =
            arguments.filter_out.iter().map(|filter| parsed("-T", filter)).collect();
        for filter in &arguments.unsubscribe {
            parsed("-U", filter)?;
        }
        let mut wanted = Self {
            filters: Vec::new(),
            options,
            unsubscribe: arguments.unsubscribe.clone(),
            left_out: left_out?,
            format,
            no_retained: arguments.no_retained,
            retained_only: arguments.retained_only,
            exit_after_subscribe: arguments.exit_after_subscribe,
            left: arguments.count,
            printed: Vec::new(),
        };
        for filter in &arguments.topics {
            wanted.add(filter)?;
        }
        Ok(wanted)
    }

    fn add(&mut self, filter: &str) -> Result<(), Failure> {
        let is_shared = parsed("-t", filter)?.share_group().is_some();
        // [MQTT-3.8.3-4]: a shared subscription knows no No Local.
        let options = if is_shared { self.options & !4 } else { self.options };
        self.filters.push((filter.to_owned(), options));
        Ok(())
    }

    /// Serves one connection after the other; the last one is left in `client`.
    async fn serve(&mut self, plan: &Plan, client: &mut Option<Client>) -> Result<(), Failure> {
        let mut current = client.insert(plan.connect().await?);
        let mut pause = PAUSE_FIRST;
        loop {
            let mut got_through = false;
            let end = self.connection(plan, current, &mut got_through).await;
            let mut error = match self.print().and(end) {
                Ok(()) | Err(End::Done) => return Ok(()),
                Err(End::Failed(failure)) => return Err(failure),
                Err(End::Lost(error)) => error,
            };
            let mut incoming = HashSet::new();
            if let Some(lost) = client.take() {
                incoming = lost.into_incoming();
            }
            if got_through {
                pause = PAUSE_FIRST;
            }
            current = loop {
                if !error.is_passing() {
                    return Err(error.into());
                }
                note(format!("{error}; connecting again in {} s", pause.as_secs()));
                sleep(pause).await;
                pause = PAUSE_LAST.min(2 * pause);
                match plan.connect_again(incoming.clone()).await {
                    Ok(connected) => break client.insert(connected),
                    Err(again) => error = again,
                }
            };
            let kept = if current.session_present() { "; the session is still there" } else { "" };
            note(format!("connected again{kept}"));
        }
    }

    /// Subscribes and prints, until the end of the connection or of what was asked for.
    async fn connection(
        &mut self,
        plan: &Plan,
        client: &mut Client,
        got_through: &mut bool,
    ) -> Result<(), End> {
        let mut answers = 0_i64;
        if !self.unsubscribe.is_empty() {
            client.unsubscribe(&self.unsubscribe, &plan.of(Place::Unsubscribe));
            answers += 1;
        }
        if !self.filters.is_empty() {
            let options = if plan.server.connect.version.is_v5() { 0xff } else { 3 };
            let filters: Vec<(String, u8)> = self
                .filters
                .iter()
                .map(|(filter, wanted)| (filter.clone(), wanted & options))
                .collect();
            client.subscribe(&filters, &plan.of(Place::Subscribe));
            answers += 1;
        }
        loop {
            let mut next = Some(client.event().await?);
            while let Some(event) = next {
                match event {
                    Event::Message(message) => self.message(client, &message)?,
                    Event::Subscribed { codes, reason } => {
                        self.granted(plan.server.connect.version, &codes, &reason)?;
                        *got_through = true;
                        answers -= 1;
                    }
                    Event::Unsubscribed { codes } => {
                        self.unsubscribed(&codes);
                        answers -= 1;
                    }
                    Event::Published { .. } => {}
                }
                if answers == 0 && self.exit_after_subscribe {
                    return Err(End::Done);
                }
                next = client.next_event()?;
            }
            self.print()?;
        }
    }

    fn message(&mut self, client: &mut Client, message: &Publish) -> Result<(), End> {
        if self.left == Some(0) {
            return Err(End::Done);
        }
        let is_stale = message.retain && self.no_retained;
        if self.retained_only && !message.retain {
            self.print()?;
            return Err(End::Done);
        }
        let is_shown =
            !is_stale && !self.left_out.iter().any(|filter| filter.matches(&message.topic));
        if is_shown {
            self.format.write(&mut self.printed, message, clock::unix_time());
        }
        if self.printed.len() >= PRINTED_BYTES {
            self.print()?;
        }
        client.acknowledge(message);
        if is_shown && let Some(left) = &mut self.left {
            *left -= 1;
            if *left == 0 {
                self.print()?;
                return Err(End::Done);
            }
        }
        Ok(())
    }

    /// Prints what is gathered; acknowledgements are sent afterwards. Who reads no more, as `head`,
    /// ends it.
    fn print(&mut self) -> Result<(), End> {
        if self.printed.is_empty() {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(&self.printed).and_then(|()| stdout.flush());
        self.printed.clear();
        written.map_err(|error| {
            if error.kind() == io::ErrorKind::BrokenPipe {
                return End::Done;
            }
            End::Failed(Failure::refused(format!("can't write the output: {error}")))
        })
    }

    fn granted(&self, version: Version, codes: &[u8], reason: &Reason) -> Result<(), End> {
        let mut denied = 0;
        for ((filter, options), code) in self.filters.iter().zip(codes) {
            let asked = options & 3;
            if *code >= 0x80 {
                denied += 1;
                let words = if version.is_v5() {
                    let words = ReasonCode::from_u8(*code).map_or("refused", ReasonCode::text);
                    format!("{words} (0x{code:02x})")
                } else {
                    "denied".to_owned()
                };
                let told = reason.text().map_or_else(String::new, |text| format!(": {text}"));
                note(format!("error: subscription to {filter} denied: {words}{told}"));
            } else if *code < asked {
                note(format!("note: {filter} is granted QoS {code}, not {asked}"));
            }
        }
        if denied > 0 && denied == self.filters.len() {
            let failure = Failure::refused("the server denied every subscription");
            return Err(End::Failed(failure.hint("ask the broker who decides: wasmqtt acl check")));
        }
        Ok(())
    }

    fn unsubscribed(&self, codes: &[u8]) {
        for (filter, code) in self.unsubscribe.iter().zip(codes) {
            if *code != 0 {
                let words = ReasonCode::from_u8(*code).map_or("refused", ReasonCode::text);
                note(format!("note: unsubscribing from {filter}: {words}"));
            }
        }
    }
}

fn parsed(option: &str, filter: &str) -> Result<TopicFilter, Failure> {
    TopicFilter::parse(filter)
        .map_err(|error| Failure::start(format!("{option} {filter}: {error}")))
}
