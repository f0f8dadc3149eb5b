//! Writes GGUF files, as its specification says.

/// What a key may hold here.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    U32(u32),
    F32(f32),
    Flag(bool),
    Text(String),
    Texts(Vec<String>),
    F32s(Vec<f32>),
    I32s(Vec<i32>),
}

/// A tensor; its shape has rows first, as everywhere but in the file.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// The number of its type.
    pub(crate) kind: u32,
    pub(crate) bytes: Vec<u8>,
}

/// A file to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writer {
    pub(crate) keys: Vec<(String, Value)>,
    pub(crate) tensors: Vec<Tensor>,
}

pub(crate) const F32: u32 = 0;

impl Writer {
    pub(crate) fn key(&mut self, key: &str, value: Value) {
        self.keys.retain(|(known, _)| known != key);
        self.keys.push((key.into(), value));
    }

    pub(crate) fn floats(&mut self, name: &str, shape: &[usize], numbers: &[f32]) {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.tensors.push(Tensor { name: name.into(), shape: shape.into(), kind: F32, bytes });
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3_u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            text(&mut out, key);
            write(&mut out, value);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            text(&mut out, &tensor.name);
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            for size in tensor.shape.iter().rev() {
                out.extend((*size as u64).to_le_bytes());
            }
            out.extend(tensor.kind.to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset += tensor.bytes.len().next_multiple_of(32);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(&tensor.bytes);
        }
        out
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn write(out: &mut Vec<u8>, value: &Value) {
    let mut head = |kind: u32, list: Option<usize>| {
        if list.is_some() {
            out.extend(9_u32.to_le_bytes());
        }
        out.extend(kind.to_le_bytes());
        if let Some(len) = list {
            out.extend((len as u64).to_le_bytes());
        }
    };
    match value {
        Value::U32(_) => head(4, None),
        Value::F32(_) => head(6, None),
        Value::Flag(_) => head(7, None),
        Value::Text(_) => head(8, None),
        Value::Texts(list) => head(8, Some(list.len())),
        Value::F32s(list) => head(6, Some(list.len())),
        Value::I32s(list) => head(5, Some(list.len())),
    }
    match value {
        Value::U32(number) => out.extend(number.to_le_bytes()),
        Value::F32(number) => out.extend(number.to_le_bytes()),
        Value::Flag(flag) => out.push((*flag).into()),
        Value::Text(content) => text(out, content),
        Value::Texts(list) => list.iter().for_each(|content| text(out, content)),
        Value::F32s(list) => list.iter().for_each(|number| out.extend(number.to_le_bytes())),
        Value::I32s(list) => list.iter().for_each(|number| out.extend(number.to_le_bytes())),
    }
}
