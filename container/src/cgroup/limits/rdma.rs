//! `linux.resources.rdma`.

use std::collections::HashMap;

use oci_spec::runtime::LinuxRdma;

use super::{Setting, refused};
use crate::cgroup::CgroupError;

pub(super) fn add(
    devices: &HashMap<String, LinuxRdma>,
    settings: &mut Vec<Setting>,
) -> Result<(), CgroupError> {
    let mut sorted: Vec<_> = devices.iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    for (name, limits) in sorted {
        let field = format!("rdma.{}", name.escape_debug());
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(refused(field, "must be the name of a device"));
        }
        let mut value = name.clone();
        for (key, number) in [("hca_handle", limits.hca_handles()), ("hca_object", limits.hca_objects())] {
            if let Some(number) = number {
                value.push_str(&format!(" {key}={number}"));
            }
        }
        if value != *name {
            settings.push(Setting::new(field).both("rdma", "rdma.max", value));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{files, refused_field};

    #[test]
    fn a_line_a_device() {
        let json = r#"{"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 1000}, "mlx4_0": {"hcaObjects": 2},
            "none": {}}}"#;
        let lines = ["rdma.max=mlx4_0 hca_object=2", "rdma.max=mlx5_1 hca_handle=3 hca_object=1000"];
        assert_eq!(files(json), (lines.map(str::to_owned).to_vec(), lines.map(str::to_owned).to_vec()));
    }

    #[test]
    fn a_name_is_one_word() {
        assert_eq!(refused_field(r#"{"rdma": {"a b": {"hcaHandles": 3}}}"#), "rdma.a b");
    }
}
