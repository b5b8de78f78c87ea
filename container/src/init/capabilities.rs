//! The five capability sets (capabilities(7)).

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
};

use crate::plan::Capabilities;
use crate::step::{At, StepError};

const STEP: &str = "capabilities";

/// Takes what is not wanted out of the bounding set, while this process still may.
pub(super) fn limit_bounding_set(wanted: Capabilities) -> Result<(), StepError> {
    for number in 0..64 {
        if wanted.bounding >> number & 1 == 1 {
            continue;
        }
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            // Past the last capability that this kernel knows.
            Err(Errno::INVAL) => break,
            result => result.at(STEP, format_args!("bounding set, number {number}"))?,
        }
    }
    Ok(())
}

/// Sets the other four sets to what is wanted and can be had. The warning says what cannot.
pub(super) fn set(wanted: Capabilities) -> Result<Option<String>, StepError> {
    let held = capabilities(None).at(STEP, "reading what is held")?.permitted.bits();
    let permitted = wanted.permitted & held;
    let inheritable = wanted.inheritable & held;
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(wanted.effective & permitted),
        permitted: CapabilitySet::from_bits_retain(permitted),
        inheritable: CapabilitySet::from_bits_retain(inheritable),
    };
    set_capabilities(None, sets).at(STEP, "effective, permitted and inheritable sets")?;
    clear_ambient_capability_set().at(STEP, "ambient set")?;
    for number in bits(wanted.ambient & permitted & inheritable) {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        configure_capability_in_ambient_set(capability, true)
            .at(STEP, format_args!("ambient set, number {number}"))?;
    }
    let lacking = (wanted.permitted | wanted.bounding) & !held;
    Ok((lacking != 0).then(|| {
        let names: Vec<String> = bits(lacking)
            .map(|number| match CapabilitySet::from_bits(1 << number) {
                Some(known) => format!("{known:?}"),
                None => format!("number {number}"),
            })
            .collect();
        format!("capabilities asked for that this host does not give: {}", names.join(", "))
    }))
}

fn bits(mask: u64) -> impl Iterator<Item = u32> {
    (0..64).filter(move |number| mask >> number & 1 == 1)
}
