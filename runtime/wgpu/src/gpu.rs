//! The GPU itself: found through Vulkan, opened once.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::plan;

/// Why a model cannot run on a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// Vulkan knows no GPU.
    NoGpu(String),
    /// It is there, and does not open.
    Closed(String),
    /// A buffer of the plan is larger than the GPU can bind, and cannot be cut.
    Binding {
        /// What the buffer holds.
        what: &'static str,
        /// Its bytes.
        need: u64,
        /// What the GPU binds at most.
        have: u64,
    },
    /// The GPU has no room for a buffer.
    Memory {
        /// What the buffer holds.
        what: &'static str,
        /// Its bytes.
        need: u64,
    },
    /// A head whose width the kernels do not have.
    Head(u32),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGpu(why) => write!(
                f,
                "backend wgpu: no GPU found ({why}); install the GPU's Vulkan driver, or use the cpu"
            ),
            Self::Closed(why) => {
                write!(f, "backend wgpu: the GPU does not open ({why}); use the cpu")
            }
            Self::Binding { what, need, have } => write!(
                f,
                "backend wgpu: {what} of {need} bytes, and this GPU binds {have} at most; plan for less context, or use the cpu"
            ),
            Self::Memory { what, need } => write!(
                f,
                "backend wgpu: the GPU has no room for {what} of {need} bytes; plan for less context, end what else uses it, or use \
                 the cpu"
            ),
            Self::Head(width) => write!(
                f,
                "backend wgpu: a head of {width} numbers; the kernels have even widths up to 256; use the cpu"
            ),
        }
    }
}

impl std::error::Error for Unavailable {}

/// An open GPU.
#[derive(Debug)]
pub(crate) struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) name: String,
    /// Bytes that one binding may have.
    pub(crate) binding_bytes: u64,
    /// Bytes of all buffers that were made.
    pub(crate) made_bytes: AtomicU64,
}

/// Of the memory that the driver offers this process, what may be taken, in percent. Where CPU and GPU share it, a driver may
/// otherwise give what the system then ends processes for.
const MOST_PERCENT: u8 = 95;

/// Bytes given to the queue at once: it keeps a copy of them until they are there.
const CHUNK_BYTES: usize = 16 << 20;

impl Gpu {
    /// Opens the fastest GPU that Vulkan knows.
    pub(crate) fn open() -> Result<Self, Unavailable> {
        let mut wanted = wgpu::InstanceDescriptor::new_without_display_handle();
        wanted.backends = wgpu::Backends::VULKAN;
        wanted.memory_budget_thresholds.for_resource_creation = Some(MOST_PERCENT);
        let instance = wgpu::Instance::new(wanted);
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..wgpu::RequestAdapterOptions::default()
        };
        let adapter = pollster::block_on(instance.request_adapter(&options));
        let adapter = adapter.map_err(|error| Unavailable::NoGpu(of_vulkan(&error.to_string())))?;
        let limits = adapter.limits();
        let opened = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("dynamax"),
            required_limits: limits.clone(),
            // Buffers are few and large, and their sizes are known: no pools.
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..wgpu::DeviceDescriptor::default()
        }));
        let (device, queue) = opened.map_err(|error| Unavailable::Closed(error.to_string()))?;
        let binding_bytes = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let (name, made_bytes) = (adapter.get_info().name, AtomicU64::new(0));
        Ok(Self { device, queue, name, binding_bytes, made_bytes })
    }

    /// A zeroed buffer that kernels use and copies reach.
    pub(crate) fn buffer(
        &self,
        what: &'static str,
        bytes: u64,
    ) -> Result<wgpu::Buffer, Unavailable> {
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_DST
            | wgpu::BufferUsages::COPY_SRC;
        self.buffer_for(what, plan::buffer(bytes), usage)
    }

    /// A buffer for some other use.
    pub(crate) fn buffer_for(
        &self,
        what: &'static str,
        size: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, Unavailable> {
        let label = Some(what);
        let wanted = wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false };
        let buffer = self.allocate(what, size, || self.device.create_buffer(&wanted))?;
        self.made_bytes.fetch_add(size, Ordering::Relaxed);
        Ok(buffer)
    }

    /// A buffer with these bytes, sent piece by piece.
    pub(crate) fn filled(
        &self,
        what: &'static str,
        bytes: &[u8],
    ) -> Result<wgpu::Buffer, Unavailable> {
        let buffer = self.buffer(what, bytes.len() as u64)?;
        self.fill(&buffer, what, bytes)?;
        Ok(buffer)
    }

    /// Sends a buffer's bytes.
    pub(crate) fn fill(
        &self,
        buffer: &wgpu::Buffer,
        what: &'static str,
        bytes: &[u8],
    ) -> Result<(), Unavailable> {
        for (index, chunk) in bytes.chunks(CHUNK_BYTES).enumerate() {
            self.allocate(what, bytes.len() as u64, || {
                self.queue.write_buffer(buffer, (index * CHUNK_BYTES) as u64, chunk);
                self.queue.submit([]);
                self.wait();
            })?;
        }
        Ok(())
    }

    /// Does what takes memory; none left is an answer.
    fn allocate<T>(
        &self,
        what: &'static str,
        need: u64,
        take: impl FnOnce() -> T,
    ) -> Result<T, Unavailable> {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let taken = take();
        match pollster::block_on(scope.pop()) {
            None => Ok(taken),
            Some(_) => Err(Unavailable::Memory { what, need }),
        }
    }

    /// Waits until all that was submitted is done.
    pub(crate) fn wait(&self) {
        let done = self.device.poll(wgpu::PollType::wait_indefinitely());
        assert!(done.is_ok(), "the GPU is lost: {done:?}");
    }

    /// Refuses a buffer that cannot be bound.
    pub(crate) fn check(&self, what: &'static str, need: u64) -> Result<(), Unavailable> {
        let have = self.binding_bytes;
        if need > have { Err(Unavailable::Binding { what, need, have }) } else { Ok(()) }
    }
}

/// What a refusal says about Vulkan, of all that it says about everything.
fn of_vulkan(refusal: &str) -> String {
    let parts = || refusal.split([',', ';']).map(str::trim);
    parts().find(|part| part.starts_with("vulkan")).unwrap_or(refusal).to_owned()
}
