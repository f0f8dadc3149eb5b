//! The power is cut at every operation of a device's life: it starts with the old bundle or the new one, whole.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod faulty;

use dynamax_bundle::Hash;
use dynamax_slots::{Disk, Image, SlotError, Slots, Start};
use faulty::{FaultyDisk, Random};

/// Bytes of a bundle; of a write; between two that are forced to the disk.
const BUNDLE_BYTES: usize = 12_000;
const WRITE_BYTES: usize = 60;
const SYNC_BYTES: u64 = 500;
/// Starts on trial.
const MOST_STARTS: u32 = 3;
/// Ways in which the disk may look after each cut.
const OUTCOMES: u64 = 6;

type Device = Slots<FaultyDisk>;

/// Bundle number `seed`. No two share a part.
fn bundle(seed: u8) -> Vec<u8> {
    let mut random = Random(seed.into());
    (0..BUNDLE_BYTES + usize::from(seed)).map(|_| random.next() as u8).collect()
}

fn image(seed: u8) -> Image {
    let bytes = bundle(seed);
    Image { hash: Hash::of(&bytes), bytes: bytes.len() as u64, counter: seed.into() }
}

fn is_whole(disk: &FaultyDisk, file: &str, hash: Hash) -> bool {
    disk.read(file).unwrap().is_some_and(|bytes| Hash::of(&bytes) == hash)
}

/// Sends a bundle, from where the last transfer broke off; returns where that was.
fn flash(device: &mut Device, seed: u8) -> Result<u64, SlotError> {
    let mut transfer = device.offer(image(seed))?;
    let offset = transfer.offset();
    for part in bundle(seed)[offset as usize..].chunks(WRITE_BYTES) {
        device.write(&mut transfer, part)?;
    }
    let check = |disk: &FaultyDisk, file: &'static str| {
        is_whole(disk, file, image(seed).hash).then_some(()).ok_or("altered".to_owned())
    };
    device.finish(transfer, check)?;
    Ok(offset)
}

/// One thing that happens to a device, and the bundles that may start from when it begins until the next begins.
struct Step {
    happens: fn(&mut Device) -> Result<(), SlotError>,
    may_start: &'static [u8],
}

fn start(device: &mut Device) -> Result<(), SlotError> {
    device.start(MOST_STARTS).map(drop)
}

/// A device's life: two good bundles, one that never starts well, one more, and a step back.
const LIFE: [Step; 14] = [
    // 0: nothing.
    Step { happens: |device| flash(device, 1).map(drop), may_start: &[0, 1] },
    Step { happens: start, may_start: &[1] },
    Step { happens: Device::confirm, may_start: &[1] },
    Step { happens: |device| flash(device, 2).map(drop), may_start: &[1, 2] },
    Step { happens: start, may_start: &[2] },
    Step { happens: Device::confirm, may_start: &[2] },
    Step { happens: |device| flash(device, 3).map(drop), may_start: &[2, 3] },
    Step { happens: start, may_start: &[3] },
    Step { happens: start, may_start: &[3] },
    Step { happens: start, may_start: &[2, 3] },
    Step { happens: start, may_start: &[2] },
    Step { happens: |device| flash(device, 4).map(drop), may_start: &[2, 4] },
    Step { happens: Device::confirm, may_start: &[4] },
    Step { happens: |device| device.rollback().map(drop), may_start: &[2, 4] },
];

fn device(disk: &FaultyDisk) -> Device {
    Slots::with_sync_bytes(disk.clone(), SYNC_BYTES)
}

/// Lives until the power is cut: the bundles that may start then, or `None` if it never was.
fn live(disk: &FaultyDisk) -> Option<&'static [u8]> {
    let mut device = device(disk);
    LIFE.iter().find_map(|step| (step.happens)(&mut device).is_err().then_some(step.may_start))
}

/// The bundle that starts, 0 for none.
fn started(disk: &FaultyDisk) -> u8 {
    match device(disk).start(MOST_STARTS) {
        Ok(Start { slot, image: found, .. }) => {
            let seed = (1..=9).find(|seed| image(*seed) == found).expect("a bundle that was sent");
            assert!(is_whole(disk, slot.file(), found.hash), "bundle {seed} is not whole");
            seed
        }
        Err(SlotError::Empty) => 0,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn after_any_cut_the_old_or_the_new_bundle_starts_whole() {
    let mut cuts = 0;
    let mut went_on = 0;
    for operations in 0.. {
        let disk = FaultyDisk::with_power_for(operations);
        let Some(may_start) = live(&disk) else { break };
        cuts += 1;
        for outcome in 0..OUTCOMES {
            let disk = disk.after_the_cut(operations * OUTCOMES + outcome);
            let seed = started(&disk);
            assert!(may_start.contains(&seed), "operation {operations}: {seed} of {may_start:?}");
            went_on += u32::from(is_flashed_again(&disk));
        }
    }
    println!(
        "{cuts} cuts, {OUTCOMES} outcomes each; {went_on} transfers went on where they broke off"
    );
    assert!(cuts >= 1_000, "the device's life has {cuts} operations");
    assert!(went_on > 100, "transfers go on: {went_on}");
}

/// After the cut, the transfer that was under way is sent again and arrives; returns if it went on.
fn is_flashed_again(disk: &FaultyDisk) -> bool {
    let mut device = device(disk);
    let incoming = device.state().unwrap().incoming.map(|incoming| incoming.image);
    let seed = (1..=9).find(|seed| incoming == Some(image(*seed))).unwrap_or(9);
    let offset = flash(&mut device, seed).unwrap();
    let arrived = device.start(MOST_STARTS).unwrap();
    assert_eq!(arrived.image, image(seed), "what was sent starts");
    assert!(is_whole(disk, arrived.slot.file(), arrived.image.hash), "bundle {seed}, sent again");
    offset > 0
}

#[test]
fn a_life_without_cuts_ends_as_it_should() {
    let disk = FaultyDisk::with_power_for(u64::MAX);
    assert!(live(&disk).is_none(), "nothing fails");
    assert_eq!(started(&disk), 2, "gone back to, on purpose");
    let state = device(&disk).state().unwrap();
    assert_eq!((state.floor, state.trial), (2, None), "an older one may start again");
    assert_eq!(device(&disk).disk().read("state.new").unwrap(), None, "nothing is left");
}

/// The test above would not notice a disk that keeps everything.
#[test]
fn the_disk_loses_what_was_not_forced_to_it() {
    let disk = FaultyDisk::with_power_for(u64::MAX);
    let mut working = disk.clone();
    working.truncate("f", 0).unwrap();
    working.append("f", &[7; 100]).unwrap();
    let outcomes: std::collections::BTreeSet<Option<Vec<u8>>> =
        (0..200).map(|seed| disk.after_the_cut(seed).read("f").unwrap()).collect();
    assert!(outcomes.contains(&None), "no name");
    assert!(outcomes.contains(&Some(vec![])), "no contents");
    assert!(outcomes.contains(&Some(vec![7; 100])), "all");
    assert!(outcomes.len() > 10, "torn in {} ways", outcomes.len());
    working.sync("f").unwrap();
    working.sync_names().unwrap();
    for seed in 0..50 {
        assert_eq!(disk.after_the_cut(seed).read("f").unwrap(), Some(vec![7; 100]), "forced");
    }
}
