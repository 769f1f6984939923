//! An array larger than one wants in memory: it lies in a file, and memory holds the part that is worked on.
//!
//! ```console
//! $ cargo run -p terrace-examples --example mapped_array
//! 256 MiB of numbers, at most 16 MiB of them in memory at once; their sum is 562949936644096
//! $ cargo run -p terrace-examples --example mapped_array -- /var/tmp
//! 256 MiB of numbers, at most 16 MiB of them in memory at once; their sum is 562949936644096
//! ```
//!
//! The vector is an ordinary one, of allocator-api2, over a `MappedFile`. It grows where it is, for it is the last
//! block, and the file takes space on the disk as it does. After each window `evict` takes the pages out of this
//! process's memory; left alone, the system does so when others need the memory. A folder on a disk can be named
//! (where `/tmp` is a tmpfs, a file there is memory of the machine, though not of this process).

use std::{env, fs, io, num::NonZeroUsize, path::Path};

use allocator_api2_02::vec::Vec;
use terrace_sys::MappedFile;

const MIB: usize = 1 << 20;

/// The most bytes in memory at once, and the sum.
struct Told {
    peak: usize,
    sum: u64,
}

/// Writes `0, 1, 2, …` into a file of `size` bytes in `folder`, then sums them, a window of `window` bytes at a time.
fn story(folder: &Path, size: usize, window: usize) -> io::Result<Told> {
    let file = MappedFile::scratch(folder, NonZeroUsize::new(size).expect("not 0"))?;
    let (count, step) = ((size / 8) as u64, window / 8);
    let mut numbers = Vec::new_in(&file);
    let mut peak = 0;

    for first in (0..count).step_by(step) {
        numbers.try_reserve(step).map_err(|_| io::ErrorKind::StorageFull)?;
        numbers.extend(first..first + step as u64);
        peak = peak.max(in_memory(numbers.as_ptr().addr())?);
        file.evict()?;
    }

    let mut sum = 0;
    for part in numbers.chunks(step) {
        sum += part.iter().sum::<u64>();
        peak = peak.max(in_memory(numbers.as_ptr().addr())?);
        file.evict()?;
    }
    Ok(Told { peak, sum })
}

/// Bytes of the map at `address` that are in this process's memory.
fn in_memory(address: usize) -> io::Result<usize> {
    let maps = fs::read_to_string("/proc/self/smaps")?;
    let start = format!("{address:x}-"); // The vector begins where the file does.
    let lines = maps.lines().skip_while(|line| !line.starts_with(&start));
    let kib = lines.filter_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB")).next();
    Ok(kib.and_then(|kib| kib.parse::<usize>().ok()).unwrap_or(0) << 10)
}

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).map_or_else(env::temp_dir, Into::into);
    let size = 256 * MIB;
    let Told { peak, sum } = story(&folder, size, 16 * MIB)?;
    println!("{} MiB of numbers, at most {} MiB of them in memory at once; their sum is {sum}", size / MIB, peak / MIB);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_holds_a_window_and_the_file_all() {
        let told = match story(&env::temp_dir(), 32 * MIB, 2 * MIB) {
            Err(why) if why.kind() == io::ErrorKind::Unsupported => {
                return eprintln!("{:?} has no files without names: nothing tried", env::temp_dir());
            }
            told => told.unwrap(),
        };
        let count = (32 * MIB / 8) as u64;
        assert_eq!(told.sum, count * (count - 1) / 2);
        // Reading brings neighbours of a page along.
        assert!((2 * MIB..8 * MIB).contains(&told.peak), "{} bytes", told.peak);
    }
}
