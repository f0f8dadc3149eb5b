//! What runs the Program: the kernels of the cpu, or a device.

use anyhow::Result;
use dynamax_burn::{Backend as Burn, BurnDevice};
use dynamax_config::Backend;
use dynamax_session::{Session, Source};

/// Puts a session on a backend. What it lacks is said in the error; `fallback` says it on stderr instead, and stays on the
/// cpu.
pub(crate) fn put(
    session: &mut Session<'_>,
    source: &Source,
    backend: Backend,
    (fallback, memory_bytes): (bool, Option<u64>),
) -> Result<()> {
    match device(session, source, backend, memory_bytes) {
        Err(error) if fallback => {
            eprintln!("{error:#}; the cpu runs instead");
            Ok(())
        }
        other => other,
    }
}

fn device(
    session: &mut Session<'_>,
    source: &Source,
    backend: Backend,
    memory_bytes: Option<u64>,
) -> Result<()> {
    let burn = match backend {
        Backend::Cpu => return Ok(()),
        Backend::Flex => Burn::Flex,
        Backend::Ndarray => Burn::Ndarray,
        Backend::Wgpu => return gpu(session, source, memory_bytes),
    };
    let (model, threads) = (session.model(), session.threads());
    let device = BurnDevice::new(burn, &model, source.shared(), threads)?;
    session.run_on(Box::new(device));
    Ok(())
}

#[cfg(feature = "wgpu")]
fn gpu(session: &mut Session<'_>, source: &Source, memory_bytes: Option<u64>) -> Result<()> {
    let model = session.model();
    dynamax_wgpu::Held::of(&model).fit(memory_bytes.unwrap_or(u64::MAX))?;
    let device = dynamax_wgpu::WgpuDevice::new(&model)?;
    source.give_back();
    session.run_on(Box::new(device));
    Ok(())
}

#[cfg(not(feature = "wgpu"))]
fn gpu(_: &mut Session<'_>, _: &Source, _: Option<u64>) -> Result<()> {
    anyhow::bail!(
        "backend wgpu: this build does not have it; use cpu, or build with --features wgpu"
    )
}
