//! As much of MQTT 3.1.1 and 5 on the wire as a load generator needs.
//! What must not live here: sockets.

pub(crate) fn put_varint(b: &mut Vec<u8>, mut v: usize) {
    loop {
        let mut x = (v & 0x7f) as u8;
        v >>= 7;
        if v > 0 {
            x |= 0x80;
        }
        b.push(x);
        if v == 0 {
            break;
        }
    }
}
pub(crate) fn put_str(b: &mut Vec<u8>, s: &[u8]) {
    b.extend_from_slice(&(s.len() as u16).to_be_bytes());
    b.extend_from_slice(s);
}
fn frame(b: &mut Vec<u8>, first: u8, body: &[u8]) {
    b.push(first);
    put_varint(b, body.len());
    b.extend_from_slice(body);
}
#[derive(Clone, Default)]
pub(crate) struct ConnectOpts {
    pub(crate) user: Option<String>,
    pub(crate) pass: Option<String>,
    pub(crate) keepalive: u16,
    pub(crate) clean: bool,
    pub(crate) level: u8,
    pub(crate) recv_max: u16,
}
pub(crate) fn connect(b: &mut Vec<u8>, id: &str, o: &ConnectOpts) {
    let mut v = Vec::with_capacity(64);
    put_str(&mut v, b"MQTT");
    v.push(o.level);
    let mut f = 0u8;
    if o.clean {
        f |= 2;
    }
    if o.user.is_some() {
        f |= 0x80;
    }
    if o.pass.is_some() {
        f |= 0x40;
    }
    v.push(f);
    v.extend_from_slice(&o.keepalive.to_be_bytes());
    if o.level == 5 {
        v.push(3);
        v.push(0x21);
        v.extend_from_slice(&o.recv_max.to_be_bytes());
    }
    put_str(&mut v, id.as_bytes());
    if let Some(u) = &o.user {
        put_str(&mut v, u.as_bytes());
    }
    if let Some(p) = &o.pass {
        put_str(&mut v, p.as_bytes());
    }
    frame(b, 0x10, &v);
}
pub(crate) fn subscribe(b: &mut Vec<u8>, pid: u16, filters: &[String], qos: u8, level: u8) {
    let mut v = Vec::with_capacity(64 * filters.len());
    v.extend_from_slice(&pid.to_be_bytes());
    if level == 5 {
        v.push(0);
    }
    for filter in filters {
        put_str(&mut v, filter.as_bytes());
        v.push(qos);
    }
    frame(b, 0x82, &v);
}

pub(crate) fn unsubscribe(b: &mut Vec<u8>, pid: u16, filter: &str, level: u8) {
    let mut v = Vec::with_capacity(64);
    v.extend_from_slice(&pid.to_be_bytes());
    if level == 5 {
        v.push(0);
    }
    put_str(&mut v, filter.as_bytes());
    frame(b, 0xa2, &v);
}
/// Everything of a PUBLISH up to the packet id; payload follows.
pub(crate) struct PubTemplate {
    first: u8,
    head: Vec<u8>, // varint + topic
    qos: u8,
    level: u8,
}
impl PubTemplate {
    pub(crate) fn new(topic: &str, qos: u8, retain: bool, payload: usize, level: u8) -> Self {
        let mut head = Vec::new();
        let len = 2 + topic.len() + if qos > 0 { 2 } else { 0 } + usize::from(level == 5) + payload;
        put_varint(&mut head, len);
        put_str(&mut head, topic.as_bytes());
        PubTemplate { first: 0x30 | (qos << 1) | u8::from(retain), head, qos, level }
    }
    #[inline]
    pub(crate) fn put(&self, b: &mut Vec<u8>, pid: u16, payload: &[u8]) {
        b.push(self.first);
        b.extend_from_slice(&self.head);
        if self.qos > 0 {
            b.extend_from_slice(&pid.to_be_bytes());
        }
        if self.level == 5 {
            b.push(0);
        }
        b.extend_from_slice(payload);
    }
}
/// Returns (first byte, body start, frame end) of the first complete frame.
#[inline]
pub(crate) fn next_frame(b: &[u8]) -> Option<(u8, usize, usize)> {
    if b.len() < 2 {
        return None;
    }
    let (mut len, mut sh, mut i) = (0usize, 0, 1);
    loop {
        let x = *b.get(i)?;
        len |= ((x & 0x7f) as usize) << sh;
        i += 1;
        if x & 0x80 == 0 {
            break;
        }
        sh += 7;
        if sh > 21 {
            return None;
        }
    }
    (b.len() >= i + len).then_some((b[0], i, i + len))
}
#[inline]
pub(crate) fn varint(b: &[u8]) -> (usize, usize) {
    let (mut len, mut sh, mut i) = (0usize, 0, 0);
    while i < b.len() {
        let x = b[i];
        len |= ((x & 0x7f) as usize) << sh;
        i += 1;
        if x & 0x80 == 0 {
            break;
        }
        sh += 7;
    }
    (len, i)
}
