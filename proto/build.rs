//! Generates the gRPC code from the `.proto` files beside this one, without protoc.
//!
//! Two sets come out of the same files. `client` is the public one: every message typed. `server` is what the front
//! end uses: the same bytes on the wire, but the events of a publish stay slices of the request, read entries are
//! written straight from their stored form, and the answers of a publish stream are bytes once they are made (see
//! `src/grpc/wire.rs`, `src/grpc/answer.rs`).

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// Files whose services are served; the others are defined only.
const SERVED: [&str; 4] = ["event_service", "consumer_service", "stream_service", "backup_service"];

/// Fields that the server takes as bytes: (message, field).
const RAW: [(&str, &str); 3] =
    [("PublishRequest", "stream"), ("PublishRequest", "events"), ("PublishStreamRequest", "publish")];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("proto");
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);

    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_imports(true).include_source_info(true).open_files(files(root)?)?;
    let set = compiler.file_descriptor_set();

    let mut plain = set.clone();
    plain.file.iter_mut().for_each(|file| file.source_code_info = None);
    fs::write(out.join("descriptors.bin"), plain.encode_to_vec())?;

    generate(&out.join("client"), |b| b.build_server(false).btree_map("."), set.clone())?;
    if env::var_os("CARGO_FEATURE_SERVER").is_none() {
        return Ok(());
    }
    generate(
        &out.join("server"),
        |b| {
            b.build_client(false)
                .codec_path("crate::grpc::wire::WireCodec")
                .extern_path(".synapse.v1.RecordedEvent", "crate::grpc::wire::Recorded")
                .extern_path(".synapse.v1.PublishStreamResponse", "crate::grpc::answer::Answer")
        },
        patched(set),
    )?;
    Ok(())
}

/// The `.proto` files in name order, so that the output does not depend on the directory's.
fn files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(root.join("synapse/v1"))?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    found.retain(|path| path.extension().is_some_and(|e| e == "proto"));
    found.sort();
    Ok(found)
}

fn generate(
    out: &Path,
    set_up: impl FnOnce(tonic_prost_build::Builder) -> tonic_prost_build::Builder,
    set: FileDescriptorSet,
) -> io::Result<()> {
    fs::create_dir_all(out)?;
    set_up(tonic_prost_build::configure().bytes(".").out_dir(out)).compile_fds(set)
}

/// The set with what is not served left out, and the raw fields as bytes.
fn patched(mut set: FileDescriptorSet) -> FileDescriptorSet {
    set.file.retain(|file| {
        let name = file.name();
        !name.ends_with("_service.proto") || SERVED.iter().any(|s| name == format!("synapse/v1/{s}.proto"))
    });
    for (message, field) in RAW {
        assert!(set.file.iter_mut().any(|file| make_raw(file, message, field)), "no field {message}.{field}");
    }
    set
}

fn make_raw(file: &mut FileDescriptorProto, message: &str, field: &str) -> bool {
    let found = file
        .message_type
        .iter_mut()
        .filter(|m| m.name() == message)
        .flat_map(|m| m.field.iter_mut())
        .find(|f| f.name() == field);
    let Some(found) = found else { return false };
    found.set_type(Type::Bytes);
    found.type_name = None;
    true
}
