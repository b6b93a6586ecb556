//! A tree of topic levels, a node for each path of levels; whoever keeps things by filter or topic
//! hangs them on its nodes.
//! What must not live here: what matches what; a walk belongs to whoever knows the question.

use std::fmt;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// A node. Good until the node is pruned; then the number may be given out again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct NodeId(u32);

/// The node of the empty path, which is always there.
pub(crate) const ROOT: NodeId = NodeId(0);

/// The text of a level as a number: the same for every node with that text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Name(u32);

/// "No node" in links: the root is nobody's child.
const NONE: u32 = 0;
const PLUS: Name = Name(u32::MAX);
const HASH: Name = Name(u32::MAX - 1);

/// Nodes sit in one vector, edges in one hash table over (parent, name), and each text is kept
/// once: a node without a value costs about 50 bytes, and no walk allocates.
pub(crate) struct LevelTrie<T> {
    nodes: Vec<Node<T>>,
    edges: HashTable<Edge>,
    names: Names,
    hasher: RandomState,
    /// Pruned nodes, chained by `next`.
    free: u32,
    used: usize,
}

struct Node<T> {
    parent: u32,
    name: Name,
    /// Children but `+` and `#`, a list in the order in which they came; the first one's
    /// `previous` is the last one.
    first_child: u32,
    next: u32,
    previous: u32,
    plus: u32,
    hash: u32,
    value: T,
}

#[derive(Clone, Copy)]
struct Edge {
    parent: u32,
    name: Name,
    child: u32,
}

impl<T: Default> LevelTrie<T> {
    /// The node of that path; it is made if it was not there.
    pub(crate) fn insert<'a>(&mut self, levels: impl Iterator<Item = &'a str>) -> NodeId {
        let mut at = ROOT;
        for level in levels {
            at = match level {
                "+" => self.plus(at).unwrap_or_else(|| {
                    let child = self.add(at, PLUS);
                    self.nodes[index(at)].plus = child.0;
                    child
                }),
                "#" => self.hash(at).unwrap_or_else(|| {
                    let child = self.add(at, HASH);
                    self.nodes[index(at)].hash = child.0;
                    child
                }),
                text => match self.name(text).and_then(|name| self.child(at, name)) {
                    Some(child) => child,
                    None => self.add_text(at, text),
                },
            };
        }
        at
    }

    /// Removes the node, and every parent that is left without children and value.
    /// `is_empty` says whether a value is none.
    pub(crate) fn prune(&mut self, node: NodeId, is_empty: impl Fn(&T) -> bool) {
        let mut at = node;
        while at != ROOT {
            let node = &self.nodes[index(at)];
            if (node.first_child | node.plus | node.hash) != NONE || !is_empty(&node.value) {
                return;
            }
            let (parent, name) = (NodeId(node.parent), node.name);
            match name {
                PLUS => self.nodes[index(parent)].plus = NONE,
                HASH => self.nodes[index(parent)].hash = NONE,
                name => self.unlink(at, parent, name),
            }
            let node = &mut self.nodes[index(at)];
            node.value = T::default();
            node.next = self.free;
            self.free = at.0;
            self.used -= 1;
            at = parent;
        }
        if self.used == 0 {
            let root = std::mem::take(&mut self.nodes[0].value);
            *self = Self::default();
            self.nodes[0].value = root;
        }
    }

    fn add_text(&mut self, parent: NodeId, text: &str) -> NodeId {
        let name = self.names.take(text, &self.hasher);
        let child = self.add(parent, name);
        let hasher = &self.hasher;
        self.edges.insert_unique(
            edge_hash(hasher, parent.0, name),
            Edge { parent: parent.0, name, child: child.0 },
            |edge| edge_hash(hasher, edge.parent, edge.name),
        );
        let first = self.nodes[index(parent)].first_child;
        if first == NONE {
            self.nodes[index(parent)].first_child = child.0;
            self.nodes[index(child)].previous = child.0;
        } else {
            let last = self.nodes[first as usize].previous;
            self.nodes[last as usize].next = child.0;
            self.nodes[index(child)].previous = last;
            self.nodes[first as usize].previous = child.0;
        }
        child
    }

    fn add(&mut self, parent: NodeId, name: Name) -> NodeId {
        self.used += 1;
        let node = Node::new(parent.0, name);
        if self.free == NONE {
            let id = u32::try_from(self.nodes.len()).expect("2^32 nodes fit no memory");
            self.nodes.push(node);
            NodeId(id)
        } else {
            let id = self.free;
            self.free = self.nodes[id as usize].next;
            self.nodes[id as usize] = node;
            NodeId(id)
        }
    }

    fn unlink(&mut self, child: NodeId, parent: NodeId, name: Name) {
        let Node { next, previous, .. } = self.nodes[index(child)];
        let first = self.nodes[index(parent)].first_child;
        if first == child.0 {
            self.nodes[index(parent)].first_child = next;
        } else {
            self.nodes[previous as usize].next = next;
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        } else if first != child.0 {
            self.nodes[first as usize].previous = previous;
        }
        let hash = edge_hash(&self.hasher, parent.0, name);
        if let Ok(edge) = self.edges.find_entry(hash, |edge| edge.child == child.0) {
            edge.remove();
        }
        self.names.give_back(name, &self.hasher);
    }
}

impl<T> LevelTrie<T> {
    /// The node of that path, if it is there.
    pub(crate) fn find<'a>(&self, levels: impl Iterator<Item = &'a str>) -> Option<NodeId> {
        let mut at = ROOT;
        for level in levels {
            at = match level {
                "+" => self.plus(at)?,
                "#" => self.hash(at)?,
                text => self.child(at, self.name(text)?)?,
            };
        }
        Some(at)
    }

    /// The number of a level's text, if some node has it.
    #[inline]
    pub(crate) fn name(&self, text: &str) -> Option<Name> {
        self.names.find(text, &self.hasher)
    }

    /// The child of that name.
    #[inline]
    pub(crate) fn child(&self, parent: NodeId, name: Name) -> Option<NodeId> {
        if self.nodes[index(parent)].first_child == NONE {
            return None;
        }
        let hash = edge_hash(&self.hasher, parent.0, name);
        let is_it = |edge: &Edge| edge.parent == parent.0 && edge.name == name;
        self.edges.find(hash, is_it).map(|edge| NodeId(edge.child))
    }

    /// The child `+`.
    #[inline]
    pub(crate) fn plus(&self, parent: NodeId) -> Option<NodeId> {
        some(self.nodes[index(parent)].plus)
    }

    /// The child `#`.
    #[inline]
    pub(crate) fn hash(&self, parent: NodeId) -> Option<NodeId> {
        some(self.nodes[index(parent)].hash)
    }

    /// Every child but `+` and `#`, in the order in which they were made.
    pub(crate) fn children(&self, parent: NodeId) -> impl Iterator<Item = NodeId> {
        let first = some(self.nodes[index(parent)].first_child);
        std::iter::successors(first, |child| some(self.nodes[index(*child)].next))
    }

    /// The node and all below it but `+` and `#`, parents before their children.
    pub(crate) fn subtree(&self, top: NodeId) -> impl Iterator<Item = NodeId> {
        std::iter::successors(Some(top), move |&node| {
            if let Some(child) = some(self.nodes[index(node)].first_child) {
                return Some(child);
            }
            let mut at = node;
            while at != top {
                let Node { next, parent, .. } = self.nodes[index(at)];
                if let Some(next) = some(next) {
                    return Some(next);
                }
                at = NodeId(parent);
            }
            None
        })
    }

    /// The node above; the root's is itself.
    pub(crate) fn parent(&self, node: NodeId) -> NodeId {
        NodeId(self.nodes[index(node)].parent)
    }

    /// The child that was made after this one, of those that are left.
    pub(crate) fn sibling(&self, node: NodeId) -> Option<NodeId> {
        some(self.nodes[index(node)].next)
    }

    /// Whether a node that was remembered may still be a child of that one. A pruned node's number
    /// may have been given out again: its value has to tell.
    pub(crate) fn is_child(&self, parent: NodeId, child: NodeId) -> bool {
        self.nodes.get(index(child)).is_some_and(|node| node.parent == parent.0)
    }

    /// The text of a node's last level; nothing for the root, `+` and `#`.
    pub(crate) fn text(&self, node: NodeId) -> Option<&str> {
        self.names.text(self.nodes[index(node)].name)
    }

    /// Whether that is the name of the node's last level.
    pub(crate) fn is_named(&self, node: NodeId, name: Name) -> bool {
        self.nodes[index(node)].name == name
    }

    #[inline]
    pub(crate) fn value(&self, node: NodeId) -> &T {
        &self.nodes[index(node)].value
    }

    pub(crate) fn value_mut(&mut self, node: NodeId) -> &mut T {
        &mut self.nodes[index(node)].value
    }

    /// Nodes besides the root.
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    /// Whether there are none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }
}

impl<T: Default> Default for LevelTrie<T> {
    fn default() -> Self {
        Self {
            nodes: vec![Node::new(NONE, PLUS)],
            edges: HashTable::new(),
            names: Names::default(),
            hasher: RandomState::default(),
            free: NONE,
            used: 0,
        }
    }
}

impl<T> fmt::Debug for LevelTrie<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LevelTrie").field("nodes", &self.len()).finish_non_exhaustive()
    }
}

impl<T: Default> Node<T> {
    fn new(parent: u32, name: Name) -> Self {
        let (first_child, next, previous, plus, hash) = (NONE, NONE, NONE, NONE, NONE);
        Self { parent, name, first_child, next, previous, plus, hash, value: T::default() }
    }
}

#[inline]
const fn index(node: NodeId) -> usize {
    node.0 as usize
}

#[inline]
const fn some(link: u32) -> Option<NodeId> {
    if link == NONE { None } else { Some(NodeId(link)) }
}

#[inline]
fn edge_hash(hasher: &RandomState, parent: u32, name: Name) -> u64 {
    hasher.hash_one((u64::from(parent) << 32) | u64::from(name.0))
}

/// Each text once, counted by the nodes that have it.
#[derive(Default)]
struct Names {
    by_text: HashTable<u32>,
    names: Vec<NameEntry>,
    free: Vec<u32>,
}

struct NameEntry {
    text: Text,
    nodes: u32,
}

/// A level's text. Most are short, and then finding one touches no memory but the entry.
enum Text {
    Short(u8, [u8; SHORT_BYTES_MAX]),
    Long(Box<str>),
}

const SHORT_BYTES_MAX: usize = 22;

impl Text {
    fn new(text: &str) -> Self {
        let mut bytes = [0; SHORT_BYTES_MAX];
        match (u8::try_from(text.len()), bytes.get_mut(..text.len())) {
            (Ok(length), Some(start)) => {
                start.copy_from_slice(text.as_bytes());
                Self::Short(length, bytes)
            }
            _ => Self::Long(text.into()),
        }
    }

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(length, bytes) => &bytes[..usize::from(*length)],
            Self::Long(text) => text.as_bytes(),
        }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("it was made from a str")
    }
}

impl Names {
    #[inline]
    fn find(&self, text: &str, hasher: &RandomState) -> Option<Name> {
        let is_it = |&name: &u32| self.names[name as usize].text.as_bytes() == text.as_bytes();
        self.by_text.find(hasher.hash_one(text), is_it).map(|&name| Name(name))
    }

    fn take(&mut self, text: &str, hasher: &RandomState) -> Name {
        if let Some(name) = self.find(text, hasher) {
            self.names[name.0 as usize].nodes += 1;
            return name;
        }
        let entry = NameEntry { text: Text::new(text), nodes: 1 };
        let name = match self.free.pop() {
            Some(name) => {
                self.names[name as usize] = entry;
                name
            }
            None => {
                self.names.push(entry);
                u32::try_from(self.names.len() - 1).expect("2^32 names fit no memory")
            }
        };
        let names = &self.names;
        self.by_text.insert_unique(hasher.hash_one(text), name, |&other| {
            hasher.hash_one(names[other as usize].text.as_str())
        });
        Name(name)
    }

    fn give_back(&mut self, name: Name, hasher: &RandomState) {
        let entry = &mut self.names[name.0 as usize];
        entry.nodes -= 1;
        if entry.nodes > 0 {
            return;
        }
        let text = std::mem::replace(&mut entry.text, Text::new(""));
        if let Ok(found) = self.by_text.find_entry(hasher.hash_one(text.as_str()), |&n| n == name.0)
        {
            found.remove();
        }
        self.free.push(name.0);
    }

    fn text(&self, name: Name) -> Option<&str> {
        let entry = self.names.get(name.0 as usize)?;
        Some(entry.text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes_leaves_no_room_taken() {
        let mut trie = LevelTrie::<bool>::default();
        let stays = trie.insert(["a", "b"].into_iter());
        *trie.value_mut(stays) = true;
        for round in 0..100 {
            let text = round.to_string();
            let node = trie.insert(["a", "+", &text, "#"].into_iter());
            let sibling = trie.insert(["a", &text].into_iter());
            for node in [node, sibling] {
                trie.prune(node, |value| !value);
            }
        }
        assert_eq!(trie.len(), 2);
        assert_eq!(trie.edges.len(), 2);
        assert_eq!(trie.names.by_text.len(), 2);
        assert_eq!((trie.nodes.len(), trie.names.names.len()), (7, 3));
        *trie.value_mut(stays) = false;
        trie.prune(stays, |value| !value);
        assert!(trie.is_empty() && trie.edges.is_empty() && trie.names.names.is_empty());
    }

    #[test]
    fn children_and_subtrees_come_in_the_order_in_which_they_were_made() {
        let mut trie = LevelTrie::<()>::default();
        for path in ["a/x", "b", "c/y/z", "a/w", "+", "d"] {
            trie.insert(path.split('/'));
        }
        let texts = |nodes: Vec<NodeId>| -> Vec<String> {
            nodes.into_iter().map(|node| trie.text(node).unwrap_or("-").to_owned()).collect()
        };
        assert_eq!(texts(trie.children(ROOT).collect()), ["a", "b", "c", "d"]);
        let all = ["-", "a", "x", "w", "b", "c", "y", "z", "d"];
        assert_eq!(texts(trie.subtree(ROOT).collect()), all);
        let a = trie.find(["a"].into_iter()).expect("it was made");
        assert_eq!(texts(trie.subtree(a).collect()), ["a", "x", "w"]);
        let d = trie.find(["d"].into_iter()).expect("it was made");
        trie.prune(d, |()| true);
        let b = trie.find(["b"].into_iter()).expect("it was made");
        trie.prune(b, |()| true);
        trie.insert(["b"].into_iter());
        assert_eq!(trie.children(ROOT).count(), 3);
        assert_eq!(trie.children(ROOT).last().and_then(|node| trie.text(node)), Some("b"));
    }
}
