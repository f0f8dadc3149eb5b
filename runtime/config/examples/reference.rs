//! Prints every key of `device.toml`, as `docs/device-toml.md` holds it.

fn main() {
    print!("{}", dynamax_config::reference());
}
