//! The adapter of what contract version 0.2.0 adds: exchanges of AUTH packets, and random bytes.
//! What must not live here: deadlines, instances, and what follows from an answer.

use wasmqtt_core::hook::ExchangeRequest;
use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime::{Result, Store};

use crate::answer::{ExchangeVerdict, Refusal, denial};
use crate::fault::Stop;
use crate::limits::{EXCHANGE_DATA_BYTES_MAX, EXCHANGE_STATE_BYTES_MAX, RANDOM_BYTES_MAX};
use crate::state::State;
use crate::trusted::additions::Exchange;
use crate::trusted::additions::exports::wasmqtt::plugin0_2_0::auth_exchange;
use crate::trusted::additions::wasmqtt::plugin0_2_0::{exchanges, random};
use crate::trusted::bindings::wasmqtt::plugin::types;
use crate::trusted::lend::{Lent, lend, with_lent};
use crate::v1::{handle, principal};

pub(crate) use auth_exchange::{Guest, GuestIndices as Indices};

/// The version of the contract.
pub(crate) const VERSION: &str = "0.2.0";

/// What it brought.
pub(crate) const INTERFACES: [&str; 3] = ["exchanges", "random", "auth-exchange"];

const NOTHING_LENT: Stop = Stop::bad("an exchange was used outside of its call");

/// Adds what this version brought; its imports of 0.1.0 are there already.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    exchanges::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    random::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

/// Asks for one step.
pub(crate) fn exchange(
    hook: &Guest,
    store: &mut Store<State>,
    request: &ExchangeRequest,
) -> Result<ExchangeVerdict> {
    use auth_exchange::Decision;
    let connection = &*request.connection;
    let principal_before = request.principal.as_deref();
    let exchange = Some(request);
    let facts = Lent { connection, principal: principal_before, message: None, exchange };
    let call = || hook.call_step(&mut *store, handle(), handle(), handle());
    let decision = lend(&facts, call)?;
    let reply = &mut store.data_mut().reply;
    Ok(match decision {
        Decision::Next if request.step > 0 => {
            return Err(Stop::bad("`next` to the answer of its own challenge").into());
        }
        Decision::Next => ExchangeVerdict::Next,
        Decision::Continue(data) => ExchangeVerdict::Continue {
            data: bounded(data)?,
            state: std::mem::take(&mut reply.state).into_boxed_slice(),
        },
        Decision::Allow(data) => {
            let data = data.map(bounded).transpose()?;
            ExchangeVerdict::Allow(principal(reply, connection), data)
        }
        Decision::Deny(types::Denial { code, reason }) => {
            ExchangeVerdict::Deny(denial(code, reason, Refusal::Connack)?)
        }
    })
}

fn bounded(data: Vec<u8>) -> Result<Box<[u8]>> {
    if data.len() > EXCHANGE_DATA_BYTES_MAX {
        return Err(Stop::bad("more Authentication Data than a plugin may send").into());
    }
    Ok(data.into_boxed_slice())
}

fn lent<R>(read: impl FnOnce(&ExchangeRequest) -> R) -> Result<R> {
    with_lent(|lent| lent.and_then(|lent| lent.exchange).map(read))
        .ok_or_else(|| NOTHING_LENT.into())
}

impl exchanges::Host for State {}

impl exchanges::HostExchange for State {
    fn method(&mut self, _: Resource<Exchange>) -> Result<String> {
        lent(|exchange| exchange.method.to_string())
    }

    fn data(&mut self, _: Resource<Exchange>) -> Result<Option<Vec<u8>>> {
        lent(|exchange| exchange.data.as_deref().map(<[u8]>::to_vec))
    }

    fn step(&mut self, _: Resource<Exchange>) -> Result<u32> {
        lent(|exchange| u32::from(exchange.step))
    }

    fn is_re_authentication(&mut self, _: Resource<Exchange>) -> Result<bool> {
        lent(|exchange| exchange.principal.is_some())
    }

    fn state(&mut self, _: Resource<Exchange>) -> Result<Vec<u8>> {
        lent(|exchange| exchange.kept.as_ref().map_or_else(Vec::new, |kept| kept.state.to_vec()))
    }

    fn set_state(&mut self, _: Resource<Exchange>, state: Vec<u8>) -> Result<()> {
        if state.len() > EXCHANGE_STATE_BYTES_MAX {
            return Err(Stop::bad("set-state with more bytes than are kept").into());
        }
        self.reply.state = state;
        Ok(())
    }

    fn drop(&mut self, _: Resource<Exchange>) -> Result<()> {
        Ok(())
    }
}

impl random::Host for State {
    fn bytes(&mut self, length: u32) -> Result<Vec<u8>> {
        if length > RANDOM_BYTES_MAX {
            return Err(Stop::bad("more random bytes than one call gives").into());
        }
        let mut bytes = vec![0; length as usize];
        getrandom::fill(&mut bytes).map_err(wasmtime::Error::new)?;
        Ok(bytes)
    }
}
