//! What runs the Program: the kernels of the cpu, or a device that this build has.

#[cfg(not(all(feature = "flex", feature = "wgpu")))]
use anyhow::bail;
use anyhow::{Result, ensure};
use dynamax_config::{Backend, Device};
use dynamax_session::{Session, Source};

/// Puts a session on the backend that `[device]` names. Where it is not there, and `fallback` allows it, the cpu runs, and
/// stderr says why.
pub(crate) fn put(
    session: &mut Session<'_>,
    source: &Source,
    config: &Device,
    memory_bytes: Option<u64>,
) -> Result<()> {
    match device(session, source, config.backend, memory_bytes) {
        Ok(Some(device)) => session.run_on(device),
        Ok(None) => {}
        Err(error) if config.fallback => {
            eprintln!("dynamaxd: [device] backend: {error:#}; the cpu runs instead");
        }
        Err(error) => return Err(error.context("[device] backend")),
    }
    Ok(())
}

/// The backend's device; none for the cpu.
#[cfg_attr(
    not(feature = "wgpu"),
    expect(unused_variables, reason = "the cpu's plan was checked when it was made")
)]
fn device(
    session: &Session<'_>,
    source: &Source,
    backend: Backend,
    memory_bytes: Option<u64>,
) -> Result<Option<Box<dyn dynamax_engine::Device>>> {
    match backend {
        Backend::Cpu => Ok(None),
        #[cfg(feature = "flex")]
        Backend::Flex | Backend::Ndarray => {
            let burn = match backend {
                Backend::Ndarray => dynamax_burn::Backend::Ndarray,
                _ => dynamax_burn::Backend::Flex,
            };
            let (model, threads) = (session.model(), session.threads());
            let device = dynamax_burn::BurnDevice::new(burn, &model, source.shared(), threads)?;
            Ok(Some(Box::new(device)))
        }
        #[cfg(feature = "wgpu")]
        Backend::Wgpu => {
            let model = session.model();
            dynamax_wgpu::Held::of(&model).fit(memory_bytes.unwrap_or(u64::MAX))?;
            let device = dynamax_wgpu::WgpuDevice::new(&model)?;
            source.give_back();
            Ok(Some(Box::new(device)))
        }
        #[cfg(not(feature = "flex"))]
        Backend::Flex | Backend::Ndarray => bail!(lacks(backend)),
        #[cfg(not(feature = "wgpu"))]
        Backend::Wgpu => bail!(lacks(backend)),
    }
}

/// Refuses a backend that this build does not have, before anything is loaded.
pub(crate) fn check(config: &Device) -> Result<()> {
    let has = match config.backend {
        Backend::Cpu => true,
        Backend::Flex => cfg!(feature = "flex"),
        Backend::Ndarray => cfg!(feature = "ndarray"),
        Backend::Wgpu => cfg!(feature = "wgpu"),
    };
    ensure!(has || config.fallback, "[device] backend: {}", lacks(config.backend));
    Ok(())
}

fn lacks(backend: Backend) -> String {
    let name = backend.name();
    format!(
        "this build does not have {name}; write \"cpu\", or build dynamaxd with --features {name}"
    )
}
