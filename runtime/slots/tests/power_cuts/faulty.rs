//! A disk in memory that can lose power: what was not forced to it is kept in part, torn, or out of order.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use dynamax_slots::Disk;

/// Vigna's `SplitMix64`.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// A change of a file's contents.
#[derive(Clone, Debug)]
enum Write {
    Length(usize),
    Bytes(usize, Vec<u8>),
}

impl Write {
    fn apply(&self, contents: &mut Vec<u8>) {
        match self {
            Self::Length(len) => contents.resize(*len, 0),
            Self::Bytes(at, bytes) => {
                let end = at + bytes.len();
                contents.resize(contents.len().max(end), 0);
                contents[*at..end].copy_from_slice(bytes);
            }
        }
    }

    /// What a cut leaves of it: all, nothing, or its start with anything behind.
    fn survive(&self, contents: &mut Vec<u8>, random: &mut Random) {
        match (random.below(3), self) {
            (0, _) => {}
            (1, Self::Bytes(at, bytes)) => {
                let mut torn = bytes.clone();
                let whole = random.below(torn.len());
                torn[whole..].iter_mut().for_each(|byte| *byte = random.next() as u8);
                Self::Bytes(*at, torn).apply(contents);
            }
            _ => self.apply(contents),
        }
    }
}

/// A change of names.
#[derive(Clone, Debug)]
enum Naming {
    Link(String, usize),
    Rename(String, String, usize),
    Remove(String),
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(name, file) => drop(names.insert(name.clone(), *file)),
            Self::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            Self::Remove(name) => drop(names.remove(name)),
        }
    }
}

/// A file without a name.
#[derive(Clone, Debug, Default)]
struct Node {
    durable: Vec<u8>,
    current: Vec<u8>,
    pending: Vec<Write>,
}

#[derive(Clone, Debug, Default)]
struct World {
    nodes: Vec<Node>,
    durable: BTreeMap<String, usize>,
    current: BTreeMap<String, usize>,
    pending: Vec<Naming>,
    operations_left: u64,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct FaultyDisk(Rc<RefCell<World>>);

fn cut() -> io::Error {
    io::Error::other("the power is cut")
}

impl FaultyDisk {
    /// An empty disk that works for so many changes. The last of them is begun, and may last or not.
    pub(crate) fn with_power_for(operations: u64) -> Self {
        Self(Rc::new(RefCell::new(World { operations_left: operations, ..World::default() })))
    }

    /// The disk as it may be found when the power is back.
    pub(crate) fn after_the_cut(&self, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut world = self.0.borrow().clone();
        for naming in std::mem::take(&mut world.pending) {
            if random.below(2) == 0 {
                naming.apply(&mut world.durable);
            }
        }
        for node in &mut world.nodes {
            // Some cuts keep everything, and some nothing.
            let pending = std::mem::take(&mut node.pending);
            let fate = random.below(6);
            for write in pending {
                match fate {
                    0 => {}
                    1 => write.apply(&mut node.durable),
                    _ => write.survive(&mut node.durable, &mut random),
                }
            }
            node.current = node.durable.clone();
        }
        world.current = world.durable.clone();
        world.operations_left = u64::MAX;
        Self(Rc::new(RefCell::new(world)))
    }

    /// Does `change`, if there is power for it. When the power goes during it, it has begun: it is pending.
    fn change(&self, change: impl FnOnce(&mut World) -> io::Result<()>) -> io::Result<()> {
        let mut world = self.0.borrow_mut();
        if world.operations_left == 0 {
            return Err(cut());
        }
        world.operations_left -= 1;
        let done = change(&mut world);
        if world.operations_left == 0 { Err(cut()) } else { done }
    }
}

impl World {
    fn file(&mut self, name: &str) -> io::Result<&mut Node> {
        let found = self.current.get(name).copied();
        let found = found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(&mut self.nodes[found])
    }

    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.current);
        self.pending.push(naming);
    }
}

impl Node {
    fn write(&mut self, write: Write) {
        write.apply(&mut self.current);
        self.pending.push(write);
    }
}

impl Disk for FaultyDisk {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let world = self.0.borrow();
        Ok(world.current.get(name).map(|file| world.nodes[*file].current.clone()))
    }

    fn len(&self, name: &str) -> io::Result<Option<u64>> {
        Ok(self.read(name)?.map(|bytes| bytes.len() as u64))
    }

    fn truncate(&mut self, name: &str, len: u64) -> io::Result<()> {
        self.change(|world| {
            if !world.current.contains_key(name) {
                world.nodes.push(Node::default());
                world.name(Naming::Link(name.into(), world.nodes.len() - 1));
            }
            world.file(name)?.write(Write::Length(len as usize));
            Ok(())
        })
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.change(|world| {
            let file = world.file(name)?;
            file.write(Write::Bytes(file.current.len(), bytes.to_vec()));
            Ok(())
        })
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.change(|world| {
            // A cut during it leaves everything pending.
            let finishes = world.operations_left > 0;
            let file = world.file(name)?;
            if finishes {
                file.durable = file.current.clone();
                file.pending.clear();
            }
            Ok(())
        })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.change(|world| {
            let file = world.current.get(from).copied().ok_or(io::ErrorKind::NotFound)?;
            world.name(Naming::Rename(from.into(), to.into(), file));
            Ok(())
        })
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.change(|world| {
            if world.current.contains_key(name) {
                world.name(Naming::Remove(name.into()));
            }
            Ok(())
        })
    }

    fn sync_names(&mut self) -> io::Result<()> {
        self.change(|world| {
            if world.operations_left > 0 {
                world.durable = world.current.clone();
                world.pending.clear();
            }
            Ok(())
        })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(1 << 40)
    }
}
