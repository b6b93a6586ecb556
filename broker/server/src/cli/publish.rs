//! `wasmqtt pub`: messages from arguments, files and standard input to a server.
//! What must not live here: packets, connections.

use std::io::{BufRead, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::sleep;
use wasmqtt_core::message::QoS;
use wasmqtt_core::topic::check_topic_name;

use crate::cli::arguments::clients::Publish as PublishArguments;
use crate::cli::client::{Interrupts, plan, qos};
use crate::cli::failure::Failure;
use crate::cli::output::note;
use crate::client::error::{ClientError, Reason};
use crate::client::packet::Publish;
use crate::client::property::{Id, Place};
use crate::client::session::{Client, Event};

/// The largest message that fits into a packet, less than what a topic and properties may take.
const PAYLOAD_BYTES_MAX: u64 = 268_435_455 - 3 * 65_535;

/// Lines that were read and not sent yet.
const LINES_WAITING_MAX: usize = 256;

/// Bytes that are gathered before they are sent.
const UNSENT_BYTES_MAX: usize = 64 * 1024;

/// Where the messages come from.
enum Source {
    /// The same, that many times.
    Same { payload: Bytes, times: u32, delay: Duration },
    /// Each line of standard input.
    Lines(Receiver<Result<Vec<u8>, String>>),
}

/// Publishes; exit code 1 when a message was refused.
pub(crate) async fn run(
    arguments: PublishArguments,
    directory: Option<PathBuf>,
) -> Result<ExitCode, Failure> {
    let source = source(&arguments)?;
    let PublishArguments { topic, qos: level, retain, session, server, .. } = arguments;
    let plan = plan(&server, session, directory.as_ref())?;
    let topic = topic.or_else(|| plan.server.topic.clone()).ok_or_else(|| {
        Failure::start("which topic?").hint("name it: -t TOPIC, or behind the host in -L URL")
    })?;
    check_topic_name(&topic).map_err(|error| Failure::start(format!("-t {topic}: {error}")))?;
    let message = Publish {
        topic,
        payload: Bytes::new(),
        qos: qos(level),
        retain,
        dup: false,
        packet_id: 0,
        properties: plan.of(Place::Publish),
    };
    let mut interrupts = Interrupts::new()?;
    let client = tokio::select! {
        client = plan.connect() => client?,
        () = interrupts.next() => return Ok(ExitCode::FAILURE),
    };
    let mut sender = Sender { client, topic: message.topic.clone(), refused: 0 };
    let result = tokio::select! {
        biased;
        () = interrupts.next() => Ok(()),
        result = sender.send_all(message, source) => result,
    };
    let Sender { client, refused, .. } = sender;
    let unsure = match client.in_flight() {
        0 => String::new(),
        1 => "; one message was not acknowledged".to_owned(),
        more => format!("; {more} messages were not acknowledged"),
    };
    match result {
        Err(Stop::Client(error)) => return Err(Failure::from(error).more(&unsure)),
        Err(Stop::Input(error)) => {
            client.disconnect(&plan.of(Place::Disconnect)).await;
            return Err(Failure::refused(error).more(&unsure));
        }
        Ok(()) => client.disconnect(&plan.of(Place::Disconnect)).await,
    }
    if !unsure.is_empty() {
        return Err(Failure::refused("interrupted").more(&unsure));
    }
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn source(arguments: &PublishArguments) -> Result<Source, Failure> {
    let payload = if arguments.stdin_line {
        return Ok(Source::Lines(lines()));
    } else if arguments.stdin_file {
        read_all("standard input", std::io::stdin().lock())?
    } else if let Some(path) = &arguments.file {
        read_file(path)?
    } else {
        arguments.message.clone().unwrap_or_default().into_vec()
    };
    Ok(Source::Same {
        payload: Bytes::from(payload),
        times: arguments.repeat,
        delay: Duration::from_secs_f64(arguments.repeat_delay.unwrap_or(0.0)),
    })
}

fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path)
        .map_err(|error| Failure::start(format!("can't read {name}: {error}")))?;
    read_all(&name, file)
}

fn read_all(name: &str, input: impl Read) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    input
        .take(PAYLOAD_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::start(format!("can't read {name}: {error}")))?;
    if bytes.len() as u64 > PAYLOAD_BYTES_MAX {
        let most = PAYLOAD_BYTES_MAX;
        return Err(Failure::start(format!("{name} has more than {most} bytes: no MQTT message")));
    }
    Ok(bytes)
}

/// The lines of standard input, read by a thread of their own: it may wait for ever in its read, and
/// ends with the process.
fn lines() -> Receiver<Result<Vec<u8>, String>> {
    let (sender, receiver) = channel(LINES_WAITING_MAX);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        loop {
            let mut line = Vec::new();
            let most = PAYLOAD_BYTES_MAX + 2;
            let read = match input.by_ref().take(most).read_until(b'\n', &mut line) {
                Ok(0) => return,
                Ok(_) if line.last() != Some(&b'\n') && line.len() as u64 == most => {
                    Err(format!("a line has more than {PAYLOAD_BYTES_MAX} bytes"))
                }
                Ok(_) => {
                    if line.last() == Some(&b'\n') {
                        line.pop();
                    }
                    if line.last() == Some(&b'\r') {
                        line.pop();
                    }
                    Ok(line)
                }
                Err(error) => Err(format!("can't read standard input: {error}")),
            };
            let is_last = read.is_err();
            if sender.blocking_send(read).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

/// Why not all was sent.
enum Stop {
    Client(ClientError),
    Input(String),
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

/// Sends messages and hears what becomes of them.
struct Sender {
    client: Client,
    topic: String,
    refused: u64,
}

impl Sender {
    async fn send_all(&mut self, mut message: Publish, source: Source) -> Result<(), Stop> {
        match source {
            Source::Same { payload, times, delay } => {
                message.payload = payload;
                for number in 0..times {
                    if number > 0 && !delay.is_zero() {
                        self.pause(delay).await?;
                    }
                    self.send(&mut message).await?;
                }
            }
            Source::Lines(mut lines) => {
                while let Some(line) = self.line(&mut lines).await? {
                    message.payload = Bytes::from(line.map_err(Stop::Input)?);
                    self.send(&mut message).await?;
                }
            }
        }
        while self.client.in_flight() > 0 {
            let event = self.client.event().await?;
            self.hear(event);
        }
        self.client.flush().await?;
        Ok(())
    }

    /// Appends one message as soon as the server may get it [MQTT-4.9.0-2].
    async fn send(&mut self, message: &mut Publish) -> Result<(), Stop> {
        while message.qos > QoS::AtMostOnce
            && self.client.in_flight() >= usize::from(self.client.terms().receive_maximum)
        {
            let event = self.client.event().await?;
            self.hear(event);
        }
        self.client.publish(message)?;
        if message.properties.get(Id::TOPIC_ALIAS).is_some() {
            message.topic.clear(); // the server knows it from here on
        }
        while let Some(event) = self.client.next_event()? {
            self.hear(event);
        }
        if self.client.unsent() >= UNSENT_BYTES_MAX {
            self.client.exchange().await?;
        }
        Ok(())
    }

    /// Waits, while the connection goes on.
    async fn pause(&mut self, delay: Duration) -> Result<(), Stop> {
        let over = sleep(delay);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return Ok(()),
                event = self.client.event() => {
                    let event = event?;
                    self.hear(event);
                }
            }
        }
    }

    /// The next line, or nothing at the end; meanwhile the connection goes on.
    async fn line(
        &mut self,
        lines: &mut Receiver<Result<Vec<u8>, String>>,
    ) -> Result<Option<Result<Vec<u8>, String>>, Stop> {
        loop {
            tokio::select! {
                biased;
                line = lines.recv() => return Ok(line),
                event = self.client.event() => {
                    let event = event?;
                    self.hear(event);
                }
            }
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Published { reason, .. } if reason.code >= 0x80 => self.told(&reason),
            // A session that was kept may still have subscriptions.
            Event::Message(message) => self.client.acknowledge(&message),
            Event::Published { .. } | Event::Subscribed { .. } | Event::Unsubscribed { .. } => {}
        }
    }

    fn told(&mut self, reason: &Reason) {
        self.refused += 1;
        note(format!("error: the message to {} was refused: {reason}", self.topic));
    }
}
