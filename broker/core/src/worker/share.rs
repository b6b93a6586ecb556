//! Messages of share groups: the one member that gets each, and another one when it does not take
//! it [MQTT 4.8.2].
//!
//! The publisher's worker chooses, before the commit that stores the message for that member. A
//! member that is gone when the message arrives, whose queue is full, whose packets may not be that
//! large, or that leaves with the message in its queue, gives it back: whoever has it chooses
//! again among the members that did not have it yet, until nobody is left. What was stored for the
//! one is stored for the other in the same batch, and goes on when that is committed.
//! What must not live here: how members are chosen (`router::group`), and windows and queues.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::action::{Observation, Shell};
use crate::event::{Mail, ShareAgain};
use crate::ids::{ConnSlot, MessageId, SessionId, SessionSlot, WorkerId};
use crate::message::{Message, MessageRef, SharedMessage};
use crate::reason::DropReason;
use crate::router::{Choice, Group, GroupSet, MatchSet, Member};
use crate::session::{Queued, Share};
use crate::store::Op;
use crate::time::Millis;
use crate::topic::TopicFilter;

use super::Worker;
use super::commit::After;
use super::deliver::add_dropped;

/// For each group of a match set, the place of the member that gets the message. Few topics have
/// more groups: choosing allocates nothing.
pub(super) type Chosen = SmallVec<[u32; 8]>;

/// No member of the group can have the message.
const NOBODY: u32 = u32::MAX;

/// The group that a message came by, borrowed on its way to a member.
#[derive(Clone, Copy)]
pub(super) struct By<'a> {
    pub(super) group: &'a Arc<Group>,
    pub(super) tried: &'a [SessionId],
}

impl By<'_> {
    pub(super) fn share(self) -> Share {
        let tried = (!self.tried.is_empty()).then(|| Box::new(self.tried.to_vec()));
        Share { tried, ..Share::first(self.group) }
    }
}

/// A message of a share group that its member did not take.
#[derive(Debug)]
pub(super) struct Stray {
    message: SharedMessage,
    share: Share,
    /// Where it is stored until it is stored for another member.
    stored: Option<(SessionId, MessageId)>,
    /// Whose message was dropped, and why, if nobody takes it.
    lost: Option<Loss>,
}

/// A member that could not have a message.
#[derive(Debug)]
pub(super) struct Loss {
    pub(super) client_id: Arc<str>,
    pub(super) reason: DropReason,
    /// Its connection, if that is to be closed where nobody else takes the message.
    pub(super) overrun: Option<ConnSlot>,
}

impl Stray {
    fn of(queued: Queued, stored_for: Option<SessionId>) -> Option<Self> {
        let Queued { message, id, share, .. } = queued;
        let stored = stored_for.zip(id);
        Some(Self { message, share: share?, stored, lost: None })
    }

    /// Its member is gone. Whoever was full before may have room by now.
    pub(super) fn left(queued: Queued, stored_for: Option<SessionId>) -> Option<Self> {
        let mut stray = Self::of(queued, stored_for)?;
        stray.share.tried = None;
        Some(stray)
    }

    /// At QoS 0, and its member is away.
    pub(super) fn missed(queued: Queued, session: SessionId) -> Option<Self> {
        Some(Self::of(queued, None)?.without(session))
    }

    /// Its member is there and can't have it.
    pub(super) fn refused(queued: Queued, session: SessionId, loss: Loss) -> Option<Self> {
        let stray = Self::of(queued, Some(session))?;
        Some(Self { lost: Some(loss), ..stray }.without(session))
    }

    /// Not to be given to that session again.
    fn without(mut self, session: SessionId) -> Self {
        self.share.tried.get_or_insert_default().push(session);
        self
    }
}

/// The members that were chosen, with their groups' places.
pub(super) fn members<'a>(
    set: &'a MatchSet,
    chosen: &'a [u32],
) -> impl Iterator<Item = (usize, &'a Member)> {
    let places = set.groups().iter().zip(chosen).enumerate();
    places.filter_map(|(place, (group, at))| Some((place, group.members.get(*at as usize)?)))
}

/// The id of a message for a group's member. A session that has the message by another way as well
/// has it under another id: each is acknowledged on its own.
pub(super) fn share_id(id: MessageId, group: usize, member: &Member) -> MessageId {
    if group == 0 && !member.is_also_plain { id } else { MessageId(id.0 + 1 + group as u64) }
}

fn choose(message: MessageRef<'_>, set: &MatchSet, publisher: &str, dice: &mut u64) -> Chosen {
    let at = |group: &GroupSet| {
        let at = group.choose(Choice { message, publisher, dice: &mut *dice, tried: &[] });
        at.and_then(|at| u32::try_from(at).ok()).unwrap_or(NOBODY)
    };
    set.groups().iter().map(at).collect()
}

/// What was chosen is not sent after all.
pub(super) fn unchoose(set: &MatchSet, chosen: &[u32]) {
    for (_, member) in members(set, chosen) {
        member.presence.arrived();
    }
}

impl<S: Shell> Worker<S> {
    /// Chooses a member of each group.
    pub(super) fn choose(
        &mut self,
        slot: ConnSlot,
        message: MessageRef<'_>,
        set: &MatchSet,
    ) -> Chosen {
        if set.groups().is_empty() {
            return Chosen::new();
        }
        let publisher = self.conns.get(slot).map_or("", |conn| &conn.facts.client_id);
        choose(message, set, publisher, &mut self.dice)
    }

    /// Gives a message of the broker itself to a member of each group.
    pub(super) fn share_own(
        &mut self,
        now: Millis,
        kept: SharedMessage,
        set: &Arc<MatchSet>,
        shell: &mut S,
    ) {
        let message = kept.as_ref().as_ref();
        let chosen = choose(message, set, "", &mut self.dice);
        let mut kept = Some(Arc::clone(&kept));
        self.deliver_chosen(now, message, &mut kept, None, (set, &chosen), shell);
    }

    /// Puts a message and the chosen members that keep it into the open batch.
    pub(super) fn store_chosen(
        &mut self,
        id: MessageId,
        message: &SharedMessage,
        (set, chosen): (&MatchSet, &[u32]),
        is_stored: bool,
    ) {
        for (group, member) in members(set, chosen).filter(|(_, it)| it.keeps(message.qos)) {
            let own = share_id(id, group, member);
            if own != id || !is_stored {
                self.commits.push(Op::Message { id: own, message: Arc::clone(message) });
            }
            let (session, qos) = (member.target.session, member.qos(message.qos));
            self.commits.push(Op::Enqueue { session, message: own, qos });
        }
    }

    /// Gives a message to the chosen members, here and on other workers.
    pub(super) fn deliver_chosen(
        &mut self,
        now: Millis,
        message: MessageRef<'_>,
        kept: &mut Option<SharedMessage>,
        id: Option<MessageId>,
        (set, chosen): (&Arc<MatchSet>, &[u32]),
        shell: &mut S,
    ) {
        for (group, member) in (0..).zip(chosen) {
            let groups = set.groups();
            let found = groups.get(group as usize).and_then(|it| it.members.get(*member as usize));
            match found.map(|member| member.worker) {
                None => {}
                Some(worker) if worker == self.id => {
                    self.give_share(now, message, kept, id, set, (group, *member), shell);
                }
                Some(worker) => {
                    let message = kept.get_or_insert_with(|| Arc::new(Message::new(message)));
                    let (message, set) = (Arc::clone(message), Arc::clone(set));
                    shell.mail(worker, Mail::Share { message, id, set, group, member: *member });
                }
            }
        }
    }

    /// Gives a message to one member, which is on this worker.
    #[expect(clippy::too_many_arguments, reason = "the hot path borrows its parts one by one")]
    pub(super) fn give_share(
        &mut self,
        now: Millis,
        message: MessageRef<'_>,
        kept: &mut Option<SharedMessage>,
        id: Option<MessageId>,
        set: &MatchSet,
        (group, member): (u32, u32),
        shell: &mut S,
    ) {
        let Some(GroupSet { group: it, members }) = set.groups().get(group as usize) else {
            return;
        };
        let Some(member) = members.get(member as usize) else {
            return;
        };
        let id = id.map(|id| share_id(id, group as usize, member));
        let by = By { group: it, tried: &[] };
        self.give_member(now, member, by, message, kept, id, shell);
    }

    /// Gives a message to a member that is on this worker, though another had it first.
    pub(super) fn give_again(&mut self, now: Millis, again: ShareAgain, shell: &mut S) {
        let ShareAgain { message, id, member, share } = again;
        let by = By { group: &share.group, tried: share.tried() };
        let mut kept = Some(Arc::clone(&message));
        self.give_member(now, &member, by, message.as_ref().as_ref(), &mut kept, id, shell);
    }

    #[expect(clippy::too_many_arguments, reason = "the hot path borrows its parts one by one")]
    fn give_member(
        &mut self,
        now: Millis,
        member: &Member,
        by: By<'_>,
        message: MessageRef<'_>,
        kept: &mut Option<SharedMessage>,
        id: Option<MessageId>,
        shell: &mut S,
    ) {
        member.presence.arrived();
        if self.sessions.get(member.target.slot).is_some_and(|session| !session.is_over()) {
            return self.give(now, &member.target, Some(by), message, kept, id, shell);
        }
        let message = Arc::clone(kept.get_or_insert_with(|| Arc::new(Message::new(message))));
        let share = Share::first(by.group);
        self.strays.push_back(Stray { message, share, stored: None, lost: None });
    }

    /// Finds another member for each message that was not taken. Ends: a member that gives a
    /// message back is not asked again before one has left.
    pub(super) fn share_again(&mut self, now: Millis, shell: &mut S) {
        let mut known: Option<(Arc<Group>, Option<GroupSet>)> = None;
        while let Some(Stray { message, share, stored, lost }) = self.strays.pop_front() {
            if let Some((session, message)) = stored {
                self.commits.push(Op::Dequeue { session, message });
            }
            if known.as_ref().is_none_or(|(group, _)| !Arc::ptr_eq(group, &share.group)) {
                let tenant = self.shared.tenant(share.group.tenant);
                let set = tenant.and_then(|tenant| tenant.group(&share.group.filter));
                known = Some((Arc::clone(&share.group), set));
            }
            let set = known.as_ref().and_then(|(_, set)| set.as_ref());
            let found = match set {
                Some(set) if message.expires_at > now => {
                    let (publisher, dice, tried) = (message.topic(), &mut self.dice, share.tried());
                    let message = message.as_ref().as_ref();
                    let choice = Choice { message, publisher, dice, tried };
                    set.choose(choice).and_then(|at| set.members.get(at))
                }
                Some(_) | None => None,
            };
            let Some(member) = found.cloned() else {
                if let Some(Loss { client_id, reason, overrun }) = lost {
                    self.overrun.extend(overrun);
                    self.counters.dropped(reason, stored.is_some());
                    add_dropped(&self.shared, share.group.tenant, 1);
                    let (client_id, topic) = (&*client_id, message.topic());
                    shell.observe(Observation::Dropped { client_id, topic, reason });
                }
                continue;
            };
            self.send_again(now, message, member, share, shell);
        }
    }

    fn send_again(
        &mut self,
        now: Millis,
        message: SharedMessage,
        member: Member,
        share: Share,
        shell: &mut S,
    ) {
        if !member.keeps(message.qos) {
            return self.give_or_mail(now, ShareAgain { message, id: None, member, share }, shell);
        }
        let id = self.message_id();
        let (session, qos) = (member.target.session, member.qos(message.qos));
        self.commits.push(Op::Message { id, message: Arc::clone(&message) });
        self.commits.push(Op::Enqueue { session, message: id, qos });
        let again = ShareAgain { message, id: Some(id), member, share };
        self.commits.after_open(After::ShareAgain(Box::new(again)));
    }

    /// Sends a message on to the member that was found for it.
    pub(super) fn give_or_mail(&mut self, now: Millis, again: ShareAgain, shell: &mut S) {
        match again.member.worker {
            WorkerId(here) if here == self.id.0 => self.give_again(now, again, shell),
            worker => shell.mail(worker, Mail::ShareAgain(Box::new(again))),
        }
    }

    /// A session is a member of these groups no longer: what waits in it goes to others, and stays
    /// where there are none [MQTT-3.10.4-2]. What was sent is completed [MQTT-3.10.4-3].
    pub(super) fn leave_groups(&mut self, place: SessionSlot, gone: &[TopicFilter]) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let state = &mut session.state;
        let Some(tenant) = self.shared.tenant(state.tenant) else {
            return;
        };
        for filter in gone.iter().filter(|filter| filter.share_group().is_some()) {
            if tenant.group(filter).is_none() {
                continue;
            }
            let taken = state.outbound.take_shared(false, |group| group.filter == *filter);
            let id = Some(state.id);
            self.strays.extend(taken.into_iter().filter_map(|queued| Stray::left(queued, id)));
        }
        state.tell_held(&self.limits);
    }
}
