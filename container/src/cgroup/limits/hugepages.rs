//! `linux.resources.hugepageLimits`.

use oci_spec::runtime::LinuxHugepageLimit;

use super::{Setting, refused};
use crate::cgroup::CgroupError;

pub(super) fn add(limits: &[LinuxHugepageLimit], settings: &mut Vec<Setting>) -> Result<(), CgroupError> {
    for (index, limit) in limits.iter().enumerate() {
        let field = format!("hugepageLimits[{index}]");
        let size = limit.page_size();
        if !is_page_size(size) {
            return Err(refused(
                format!("{field}.pageSize"),
                "must be a size as the kernel names it, like 2MB",
            ));
        }
        let bytes = limit.limit();
        if bytes < 0 {
            return Err(refused(format!("{field}.limit"), "must be a number of bytes"));
        }
        for (part, optional) in [("", false), ("rsvd.", true)] {
            // What is reserved is counted apart, where the kernel does (Linux 5.7).
            let setting = Setting::new(format!("{field}.limit"));
            let setting = setting.v1("hugetlb", format!("hugetlb.{size}.{part}limit_in_bytes"), bytes);
            let setting = setting.v2("hugetlb", format!("hugetlb.{size}.{part}max"), bytes);
            settings.push(setting.optional(optional));
        }
    }
    Ok(())
}

/// `64KB`, `2MB`, `1GB`: a part of file names, and nothing else may be.
fn is_page_size(text: &str) -> bool {
    let Some(digits) = text.strip_suffix("KB").or(text.strip_suffix("MB")).or(text.strip_suffix("GB")) else {
        return false;
    };
    !digits.is_empty() && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{files, refused_field};

    #[test]
    fn used_and_reserved() {
        let (v1, v2) = files(r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4096}]}"#);
        assert_eq!(v1, ["hugetlb.2MB.limit_in_bytes=4096", "hugetlb.2MB.rsvd.limit_in_bytes=4096"]);
        assert_eq!(v2, ["hugetlb.2MB.max=4096", "hugetlb.2MB.rsvd.max=4096"]);
    }

    #[test]
    fn a_size_is_no_path() {
        for size in ["", "MB", "2", "2mb", "../2MB", "02MB", "2MB/x", "-2MB", "2TB"] {
            let json = format!(r#"{{"hugepageLimits": [{{"pageSize": "{size}", "limit": 1}}]}}"#);
            assert_eq!(refused_field(&json), "hugepageLimits[0].pageSize", "{size}");
        }
    }
}
