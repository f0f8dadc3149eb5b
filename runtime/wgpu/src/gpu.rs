//! The GPU itself: found through Vulkan, opened once.

use std::fmt;

use wgpu::util::DeviceExt;

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
}

/// Uniforms start at multiples of this: what every adapter accepts.
pub(crate) const UNIFORM_ALIGN: u64 = 256;

/// Bytes given to the queue at once: it keeps a copy of them until they are there.
const CHUNK_BYTES: usize = 16 << 20;

impl Gpu {
    /// Opens the fastest GPU that Vulkan knows.
    pub(crate) fn open() -> Result<Self, Unavailable> {
        let mut wanted = wgpu::InstanceDescriptor::new_without_display_handle();
        wanted.backends = wgpu::Backends::VULKAN;
        let instance = wgpu::Instance::new(wanted);
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..wgpu::RequestAdapterOptions::default()
        };
        let adapter = pollster::block_on(instance.request_adapter(&options));
        let adapter = adapter.map_err(|error| Unavailable::NoGpu(error.to_string()))?;
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
        Ok(Self { device, queue, name: adapter.get_info().name, binding_bytes })
    }

    /// A zeroed buffer that kernels use and copies reach.
    pub(crate) fn buffer(&self, label: &str, bytes: u64) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes.max(16).next_multiple_of(4),
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_DST
                | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        })
    }

    /// A buffer with these bytes, sent piece by piece.
    pub(crate) fn filled(&self, label: &str, bytes: &[u8]) -> wgpu::Buffer {
        let buffer = self.buffer(label, bytes.len() as u64);
        for (index, chunk) in bytes.chunks(CHUNK_BYTES).enumerate() {
            self.queue.write_buffer(&buffer, (index * CHUNK_BYTES) as u64, chunk);
            self.queue.submit([]);
            self.wait();
        }
        buffer
    }

    /// A buffer of uniforms that never change.
    pub(crate) fn constants(&self, bytes: &[u8]) -> wgpu::Buffer {
        self.device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: Some("constants"),
            contents: bytes,
            usage: wgpu::BufferUsages::UNIFORM,
        })
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
