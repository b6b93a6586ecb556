//! What `pub`, `sub` and `bench` share: from options to a server, a CONNECT and how it ends.
//! What must not live here: messages.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tokio::signal::unix::{Signal, SignalKind, signal};
use wasmqtt_core::message::QoS;
use wasmqtt_core::reason::Version;
use wasmqtt_core::topic::check_topic_name;

use crate::cli::arguments::clients::{
    ProtocolVersion, ServerArguments, SessionArguments, TlsVersionArgument,
};
use crate::cli::failure::Failure;
use crate::cli::output::note;
use crate::cli::password;
use crate::client::error::ClientError;
use crate::client::packet::{Connect, Publish};
use crate::client::property::{Id, Place, Properties, Value, first_place, of, parse_options};
use crate::client::session::{Client, Trace};
use crate::client::tls::{TlsOptions, TlsVersion, connector};
use crate::client::transport::{Address, Target};
use crate::client::url::{Url, parse};

/// Where a password may stand that is in no argument.
const PASSWORD_VARIABLE: &str = "WASMQTT_PASSWORD";

/// Bytes of a text in a packet at most [MQTT-1.5.4-1].
const TEXT_BYTES_MAX: usize = 65_535;

/// A server, and how a client introduces itself there.
pub(crate) struct Server {
    pub(crate) target: Target,
    /// With an empty client id and without a Will.
    pub(crate) connect: Connect,
    pub(crate) patience: Duration,
    /// The topic of a URL.
    pub(crate) topic: Option<String>,
}

/// What one client's options came to.
pub(crate) struct Plan {
    pub(crate) server: Server,
    pub(crate) properties: Vec<(Place, Id, Value)>,
    pub(crate) trace: Option<Trace>,
}

impl Plan {
    /// The properties of that packet.
    pub(crate) fn of(&self, place: Place) -> Properties {
        of(place, &self.properties)
    }

    /// Connects with a session of its own.
    pub(crate) async fn connect(&self) -> Result<Client, ClientError> {
        self.connect_again(HashSet::new()).await
    }

    /// Connects, `incoming` being what the last connection left.
    pub(crate) async fn connect_again(
        &self,
        incoming: HashSet<u16>,
    ) -> Result<Client, ClientError> {
        let Server { target, connect, patience, .. } = &self.server;
        Client::connect(target, connect, *patience, incoming, self.trace).await
    }
}

/// Reads the options of `pub` and `sub`.
pub(crate) fn plan(
    server: &ServerArguments,
    session: SessionArguments,
    directory: Option<&PathBuf>,
) -> Result<Plan, Failure> {
    let mut server = self::server(server, directory)?;
    let connect = &mut server.connect;
    let version = connect.version;
    let properties = parse_options(&session.properties).map_err(Failure::start)?;
    if let (false, Some(place)) = (version.is_v5(), first_place(&properties)) {
        return Err(Failure::start(format!("-D {place}: only MQTT 5 has properties"))
            .hint("leave out -V, or -D"));
    }
    connect.properties = of(Place::Connect, &properties);
    connect.clean_start = !session.disable_clean_session;
    if let Some(seconds) = session.session_expiry_interval {
        if !version.is_v5() {
            return Err(Failure::start("-x: only MQTT 5 has a session expiry")
                .hint("-c keeps the session in every version"));
        }
        connect.properties.set(Id::SESSION_EXPIRY, seconds);
    } else if session.disable_clean_session
        && version.is_v5()
        && connect.properties.get(Id::SESSION_EXPIRY).is_none()
    {
        connect.properties.set(Id::SESSION_EXPIRY, u32::MAX);
    }
    connect.client_id = match (&session.id, &session.id_prefix) {
        (Some(id), _) => id.clone(),
        (None, Some(prefix)) => format!("{prefix}{}", std::process::id()),
        // 3.1 has no empty client id.
        (None, None) if version == Version::V31 => format!("wasmqtt{}", std::process::id()),
        (None, None) => String::new(),
    };
    check_text("-i", &connect.client_id)?;
    connect.will = will(&session, of(Place::Will, &properties))?;
    let trace: Option<Trace> = if session.debug { Some(|line| note(line)) } else { None };
    Ok(Plan { server, properties, trace })
}

fn will(session: &SessionArguments, properties: Properties) -> Result<Option<Publish>, Failure> {
    let Some(topic) = &session.will_topic else {
        if properties.0.is_empty() {
            return Ok(None);
        }
        return Err(Failure::start("-D will: there is no Will").hint("give it --will-topic TOPIC"));
    };
    check_topic_name(topic)
        .map_err(|error| Failure::start(format!("--will-topic {topic}: {error}")))?;
    let payload = session.will_payload.clone().unwrap_or_default().into_vec();
    if payload.len() > TEXT_BYTES_MAX {
        return Err(Failure::start("--will-payload has more than 65535 bytes"));
    }
    Ok(Some(Publish {
        topic: topic.clone(),
        payload: Bytes::from(payload),
        qos: qos(session.will_qos),
        retain: session.will_retain,
        dup: false,
        packet_id: 0,
        properties,
    }))
}

/// Reads the options that say where and as whom.
pub(crate) fn server(
    arguments: &ServerArguments,
    directory: Option<&PathBuf>,
) -> Result<Server, Failure> {
    if directory.is_some() {
        return Err(Failure::start("-C DIR is not for pub, sub and bench: they go to a server")
            .hint("name it: -h HOST -p PORT"));
    }
    let url = arguments.url.as_deref().map(parse).transpose();
    let url = url.map_err(|error| Failure::start(format!("-L: {error}")))?.unwrap_or_default();
    let version = match arguments.version {
        ProtocolVersion::V31 => Version::V31,
        ProtocolVersion::V311 => Version::V311,
        ProtocolVersion::V5 => Version::V5,
    };
    let tls = tls(arguments, &url)?;
    let websocket = arguments.ws || url.websocket;
    let port = arguments.port.or(url.port).unwrap_or(match (websocket, tls.is_some()) {
        (false, false) => 1883,
        (false, true) => 8883,
        (true, false) => 80,
        (true, true) => 443,
    });
    let address = match (&arguments.unix, &arguments.host) {
        (Some(path), _) => Address::Unix(path.clone()),
        (None, Some(host)) => Address::Tcp { host: host.clone(), port },
        (None, None) if url.host.is_empty() => Address::Tcp { host: "localhost".to_owned(), port },
        (None, None) => Address::Tcp { host: url.host.clone(), port },
    };
    let path = arguments.ws_path.clone().or(url.path.clone());
    let path = path.unwrap_or_else(|| "/mqtt".to_owned());
    if !path.starts_with('/') {
        return Err(Failure::start(format!("--ws-path {path}: it begins with /")));
    }
    let (username, password) = login(arguments, &url, version)?;
    let connect = Connect {
        version,
        client_id: String::new(),
        username,
        password,
        clean_start: true,
        keep_alive_seconds: arguments.keepalive,
        properties: Properties::default(),
        will: None,
    };
    let target =
        Target { address, bind: arguments.bind, tls, websocket: websocket.then_some(path) };
    let patience = Duration::from_secs(arguments.connect_timeout);
    Ok(Server { target, connect, patience, topic: url.topic })
}

type Tls = (tokio_rustls::TlsConnector, TlsOptions);

fn tls(arguments: &ServerArguments, url: &Url) -> Result<Option<Tls>, Failure> {
    let ServerArguments { cafile, capath, cert, key, insecure, tls_version, tls_alpn, sni, .. } =
        arguments;
    let is_wanted = arguments.tls
        || url.tls
        || cafile.is_some()
        || capath.is_some()
        || cert.is_some()
        || *insecure
        || tls_version.is_some()
        || tls_alpn.is_some()
        || sni.is_some();
    if !is_wanted {
        return Ok(None);
    }
    let options = TlsOptions {
        ca_file: cafile.clone(),
        ca_path: capath.clone(),
        identity: cert.clone().zip(key.clone()),
        insecure: *insecure,
        version: tls_version.map(|version| match version {
            TlsVersionArgument::V12 => TlsVersion::V12,
            TlsVersionArgument::V13 => TlsVersion::V13,
        }),
        alpn: tls_alpn.clone(),
        server_name: sni.clone(),
    };
    if options.insecure {
        note("!! --insecure: whoever answers is believed, and gets the password");
    }
    let connector = connector(&options)?;
    Ok(Some((connector, options)))
}

type Login = (Option<String>, Option<Vec<u8>>);

fn login(arguments: &ServerArguments, url: &Url, version: Version) -> Result<Login, Failure> {
    let username = arguments.username.clone().or(url.username.clone());
    if let Some(name) = &username {
        check_text("-u", name)?;
    }
    let shown = username.as_deref().unwrap_or("this client");
    let password = match (&arguments.password, &arguments.password_file) {
        (Some(word), _) if word == "-" => Some(password::ask_once(shown)?.into_bytes()),
        (Some(word), _) => Some(word.clone().into_vec()),
        (None, Some(file)) => Some(password_in(file)?),
        (None, None) => match &url.password {
            Some(password) => Some(password.clone().into_bytes()),
            // The variable is for whoever logs in, not for every client of the same shell.
            None if username.is_some() => {
                std::env::var_os(PASSWORD_VARIABLE).map(OsString::into_vec)
            }
            None => None,
        },
    };
    if password.as_ref().is_some_and(|password| password.len() > TEXT_BYTES_MAX) {
        return Err(Failure::start("the password has more than 65535 bytes"));
    }
    if password.is_some() && username.is_none() && !version.is_v5() {
        // [MQTT-3.1.2-22] of 3.1.1
        return Err(Failure::start("a password needs a user before MQTT 5").hint("give it -u USER"));
    }
    Ok((username, password))
}

fn password_in(path: &PathBuf) -> Result<Vec<u8>, Failure> {
    let file = File::open(path)
        .map_err(|error| Failure::start(format!("--password-file {}: {error}", path.display())))?;
    password::first_line(file).map(String::into_bytes)
}

/// What MQTT can carry as a text.
pub(crate) fn check_text(option: &str, text: &str) -> Result<(), Failure> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Failure::start(format!("{option}: more than {TEXT_BYTES_MAX} bytes")));
    }
    if text.contains('\0') {
        return Err(Failure::start(format!("{option}: the null character is in it")));
    }
    Ok(())
}

/// `-q`, whose range clap has checked.
pub(crate) const fn qos(number: u8) -> QoS {
    match number {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let is_usage = matches!(error, ClientError::File { .. });
        let failure = if is_usage { Self::start(&error) } else { Self::refused(&error) };
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// Ctrl-C, and what `kill` sends.
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    /// From here on they don't end the process by themselves.
    pub(crate) fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::start(format!("can't wait for signals: {error}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Waits for one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
