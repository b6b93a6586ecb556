//! `-L URL`: a server, a login and a topic in one word.
//! What must not live here: what becomes of them.

/// What a URL says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) tls: bool,
    pub(crate) websocket: bool,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    /// Of `mqtt` and `mqtts`.
    pub(crate) topic: Option<String>,
    /// Of `ws` and `wss`: the path of the request.
    pub(crate) path: Option<String>,
}

/// Reads `mqtt[s]://[USER[:PASSWORD]@]HOST[:PORT][/TOPIC]` and `ws[s]://…[/PATH]`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Url, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("write it like mqtt://user:password@host:port/topic".to_owned());
    };
    let (tls, websocket) = match scheme {
        "mqtt" => (false, false),
        "mqtts" => (true, false),
        "ws" => (false, true),
        "wss" => (true, true),
        _ => return Err(format!("{scheme}:// is not one of mqtt://, mqtts://, ws://, wss://")),
    };
    let (authority, path) = rest.split_once('/').map_or((rest, None), |(a, b)| (a, Some(b)));
    let (login, place) =
        authority.rsplit_once('@').map_or((None, authority), |(login, place)| (Some(login), place));
    let (username, password) = match login.map(|login| login.split_once(':').ok_or(login)) {
        None => (None, None),
        Some(Ok((name, password))) => (Some(decoded(name)?), Some(decoded(password)?)),
        Some(Err(name)) => (Some(decoded(name)?), None),
    };
    let (host, port) = if let Some(inside) = place.strip_prefix('[') {
        let (host, after) = inside.split_once(']').ok_or("the ] of the address is missing")?;
        (host, after.strip_prefix(':'))
    } else {
        place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)))
    };
    if host.is_empty() {
        return Err("the host is missing".to_owned());
    }
    let port = match port.map(str::parse::<u16>) {
        None => None,
        Some(Ok(port)) if port > 0 => Some(port),
        Some(_) => return Err("the port is not a number from 1 to 65535".to_owned()),
    };
    let mut url = Url { tls, websocket, username, password, port, ..Url::default() };
    host.clone_into(&mut url.host);
    match path.filter(|path| !path.is_empty()) {
        Some(path) if websocket => url.path = Some(format!("/{path}")),
        Some(topic) => url.topic = Some(decoded(topic)?),
        None => {}
    }
    Ok(url)
}

/// Without the percent signs of RFC 3986, 2.1.
fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(value.ok_or("two hexadecimal digits are to follow a % (%25 is a % itself)")?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| "what the % signs stand for is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Url, parse};

    #[test]
    fn a_url_is_taken_apart() {
        let url = parse("mqtts://al%40ice:p:%2f@example.org:8884/a/b%20c").unwrap();
        let expected = Url {
            tls: true,
            username: Some("al@ice".to_owned()),
            password: Some("p:/".to_owned()),
            host: "example.org".to_owned(),
            port: Some(8884),
            topic: Some("a/b c".to_owned()),
            ..Url::default()
        };
        assert_eq!(url, expected);
    }

    #[test]
    fn the_path_of_a_websocket_url_is_its_requests() {
        let url = parse("wss://[::1]/mqtt?x=%20").unwrap();
        assert!(url.tls && url.websocket);
        assert_eq!((url.host.as_str(), url.port), ("::1", None));
        assert_eq!((url.path.as_deref(), url.topic), (Some("/mqtt?x=%20"), None));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |text: &str, what: &str| {
            let error = parse(text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        };
        check("localhost", "write it like");
        check("http://a", "http:// is not one of");
        check("mqtt://:1883/a", "host is missing");
        check("mqtt://a:0", "1 to 65535");
        check("mqtt://a:b", "1 to 65535");
        check("mqtt://[::1", "] of the address");
        check("mqtt://a%zz@b", "hexadecimal");
        check("mqtt://b/%ff", "UTF-8");
    }
}
