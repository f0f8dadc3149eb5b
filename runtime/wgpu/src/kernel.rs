//! The kernels: their shaders, and the one layout of bindings that all share.

use crate::gpu::Gpu;

/// A kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    Map,
    Upload,
    Pick,
    Rope,
    Norm,
    Argmax,
    Quantize,
    LinearQ4,
    LinearQ8,
    LinearFloat,
    Append,
    Attend,
    Conv,
    Scan,
    Dual,
    ScanDrafts,
    DualDrafts,
}

impl Kernel {
    /// The kernel that takes its place where rows may be drafts.
    pub(crate) fn with_drafts(self) -> Self {
        match self {
            Self::Scan => Self::ScanDrafts,
            Self::Dual => Self::DualDrafts,
            other => other,
        }
    }

    /// Name of its entry point, and the shader it is in.
    fn entry(self) -> (&'static str, &'static str) {
        const ROWWISE: &str = include_str!("shaders/rowwise.wgsl");
        const LINEAR: &str = include_str!("shaders/linear.wgsl");
        const STATE: &str = include_str!("shaders/state.wgsl");
        match self {
            Self::Map => ("map", ROWWISE),
            Self::Upload => ("upload", ROWWISE),
            Self::Pick => ("pick", ROWWISE),
            Self::Rope => ("rope", ROWWISE),
            Self::Norm => ("norm", ROWWISE),
            Self::Argmax => ("argmax", ROWWISE),
            Self::Quantize => ("quantize", LINEAR),
            Self::LinearQ4 => ("linear_q4", LINEAR),
            Self::LinearQ8 => ("linear_q8", LINEAR),
            Self::LinearFloat => ("linear_float", LINEAR),
            Self::Append => ("append", STATE),
            Self::Attend => ("attend", STATE),
            Self::Conv => ("conv", STATE),
            Self::Scan => ("scan", STATE),
            Self::Dual => ("dual", STATE),
            Self::ScanDrafts => ("scan_drafts", STATE),
            Self::DualDrafts => ("dual_drafts", STATE),
        }
    }

    const ALL: [Self; 17] = [
        Self::Map,
        Self::Upload,
        Self::Pick,
        Self::Rope,
        Self::Norm,
        Self::Argmax,
        Self::Quantize,
        Self::LinearQ4,
        Self::LinearQ8,
        Self::LinearFloat,
        Self::Append,
        Self::Attend,
        Self::Conv,
        Self::Scan,
        Self::Dual,
        Self::ScanDrafts,
        Self::DualDrafts,
    ];
}

/// Rows that a product takes at once, where there are more than one: the weight is read once for all of them.
pub(crate) const ROWS: u32 = 8;

/// All kernels, compiled.
#[derive(Debug)]
pub(crate) struct Kernels {
    pub(crate) layout: wgpu::BindGroupLayout,
    /// In the order of [`Kernel`], for one row.
    single: Vec<wgpu::ComputePipeline>,
    /// The same for [`ROWS`] rows; they differ for products alone.
    many: Vec<wgpu::ComputePipeline>,
}

impl Kernels {
    pub(crate) fn compile(gpu: &Gpu) -> Self {
        let layout = bindings(gpu);
        let compile = |rows| compile(gpu, &layout, rows);
        let (single, many) = (compile(1), compile(ROWS));
        Self { layout, single, many }
    }

    /// The pipeline of a kernel for a number of rows.
    pub(crate) fn pipeline(&self, kernel: Kernel, rows: u32) -> &wgpu::ComputePipeline {
        let list = if rows > 1 { &self.many } else { &self.single };
        &list[kernel as usize]
    }
}

fn compile(gpu: &Gpu, layout: &wgpu::BindGroupLayout, rows: u32) -> Vec<wgpu::ComputePipeline> {
    let common = include_str!("shaders/common.wgsl");
    let layout = gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(layout)],
        immediate_size: 0,
    });
    let mut modules: Vec<(&str, wgpu::ShaderModule)> = Vec::new();
    let mut pipeline = |kernel: Kernel| {
        let (entry, source) = kernel.entry();
        if !modules.iter().any(|(known, _)| *known == source) {
            let text = format!("const ROWS = {rows}u;\n{common}\n{source}");
            let module = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some(entry),
                source: wgpu::ShaderSource::Wgsl(text.into()),
            });
            modules.push((source, module));
        }
        let module = modules.iter().find(|(known, _)| *known == source).map(|(_, module)| module);
        gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(entry),
            layout: Some(&layout),
            module: module.unwrap_or_else(|| unreachable!("made above")),
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        })
    };
    Kernel::ALL.map(&mut pipeline).into()
}

/// Two uniforms, the arena, three weights, two states, what is uploaded.
fn bindings(gpu: &Gpu) -> wgpu::BindGroupLayout {
    let uniform = |has_dynamic_offset| wgpu::BindingType::Buffer {
        ty: wgpu::BufferBindingType::Uniform,
        has_dynamic_offset,
        min_binding_size: None,
    };
    let storage = |read_only| wgpu::BindingType::Buffer {
        ty: wgpu::BufferBindingType::Storage { read_only },
        has_dynamic_offset: false,
        min_binding_size: None,
    };
    let types = [
        uniform(false),
        uniform(true),
        storage(false),
        storage(true),
        storage(true),
        storage(true),
        storage(false),
        storage(false),
        storage(true),
    ];
    let entry = |(binding, ty)| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty,
        count: None,
    };
    let entries: Vec<_> = (0..).zip(types).map(entry).collect();
    gpu.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: None,
        entries: &entries,
    })
}
