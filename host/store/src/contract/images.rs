//! Memory images at rest.

use relive_core::ports::{AppendError, KEPT_IMAGES, StoredImage};

use super::{Store, support::*};

fn image(script: &Script, event_id: u64) -> StoredImage {
    let bytes = format!("image of {} at {event_id}", script.run.0).into_bytes();
    StoredImage { run: script.run, event_id, bytes: bytes.into() }
}

pub fn images_are_kept_by_generation(store: &dyn Store) {
    let (a, b) = (Script::started(store, "a"), Script::started(store, "b"));
    assert_eq!(store.image(a.run, u64::MAX).unwrap(), None);
    let last = KEPT_IMAGES as u64 + 3;
    for at in 1..=last {
        store.save_images(&[image(&a, at)]).unwrap();
    }
    store.save_images(&[image(&b, 2), image(&b, 1)]).unwrap();
    assert_eq!(store.image(a.run, u64::MAX).unwrap(), Some(image(&a, last)));
    assert_eq!(store.image(a.run, last - 1).unwrap(), Some(image(&a, last - 1)));
    let oldest = last + 1 - KEPT_IMAGES as u64;
    assert_eq!(store.image(a.run, oldest).unwrap(), Some(image(&a, oldest)));
    assert_eq!(store.image(a.run, oldest - 1).unwrap(), None, "older ones are gone");
    assert_eq!(store.image(b.run, u64::MAX).unwrap(), Some(image(&b, 2)));
    store.discard_image(a.run, last).unwrap();
    assert_eq!(store.image(a.run, u64::MAX).unwrap(), Some(image(&a, last - 1)));
    let again = StoredImage { bytes: b"other".as_slice().into(), ..image(&b, 2) };
    store.save_images(std::slice::from_ref(&again)).unwrap();
    assert_eq!(store.image(b.run, 2).unwrap(), Some(again), "the last one counts");
}

pub fn images_ride_on_appends(store: &dyn Store) {
    let mut script = Script::started(store, "a");
    let mut item = script.item(Some(1), [scheduled(1, "1")]);
    item.image = Some(image(&script, 1));
    script.append(store, &item).unwrap();
    assert_eq!(store.image(script.run, u64::MAX).unwrap(), Some(image(&script, 1)));
    // Refused with its item.
    let mut stale = item.clone();
    stale.image = Some(image(&script, 2));
    assert!(matches!(append_one(store, &stale), Err(AppendError::Conflict { .. })));
    assert_eq!(store.image(script.run, u64::MAX).unwrap(), Some(image(&script, 1)));
}

pub fn images_go_with_their_run(store: &dyn Store) {
    let mut script = Script::started(store, "a");
    store.save_images(&[image(&script, 1)]).unwrap();
    let mut item = script.item(Some(1), [completed()]);
    item.image = Some(image(&script, 1));
    script.append(store, &item).unwrap();
    assert_eq!(store.image(script.run, u64::MAX).unwrap(), None);
    store.save_images(&[image(&script, 2)]).unwrap();
    assert_eq!(store.image(script.run, u64::MAX).unwrap(), None, "a closed run keeps none");
    let nobody = StoredImage { run: relive_core::RunKey(9_999), ..image(&script, 1) };
    store.save_images(&[nobody]).unwrap();
    assert_eq!(store.image(relive_core::RunKey(9_999), u64::MAX).unwrap(), None);
}
