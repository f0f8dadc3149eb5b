//! Arbitrary text as a configuration or a profile: refused in a sentence that names the file, or sound, and never a panic.
#![no_main]

use dynamax_config::{DeviceConfig, Profile};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = core::str::from_utf8(bytes) else { return };
    match DeviceConfig::from_text("device.toml", text) {
        Ok(config) => {
            // What follows from it is as sound: rates that are numbers, a board that is known or refused by name.
            if let Ok(board) = config.board() {
                assert!(board.rates(4).bandwidth_gb_s.is_finite(), "{text}");
            }
            let _ = config.meter();
            let _ = config.governor(8);
        }
        Err(error) => assert!(error.to_string().contains("device.toml"), "{error}"),
    }
    if let Err(error) = Profile::from_text("m.profile.toml", text) {
        assert!(error.to_string().contains("m.profile.toml"), "{error}");
    }
});
