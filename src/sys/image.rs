//! The main program's image: where it lies in memory, which parts of it are code, and which build
//! it is. Shared libraries are not looked at; what start-up does with the constructors found here
//! is told in `constructor`.

use std::fs::File;
use std::mem::size_of;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::slice;
use std::sync::OnceLock;

use super::build_id::BuildId;

#[cfg(target_pointer_width = "32")]
use libc::{Elf32_Ehdr as FileHeader, Elf32_Phdr as ProgramHeader, Elf32_Shdr as SectionHeader};
#[cfg(target_pointer_width = "64")]
use libc::{Elf64_Ehdr as FileHeader, Elf64_Phdr as ProgramHeader, Elf64_Shdr as SectionHeader};

/// Returns the image of the program that this process runs.
pub(crate) fn main_image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(Image::of_this_process)
}

/// The main program as the kernel mapped it.
#[derive(Debug)]
pub(crate) struct Image {
    /// What is added to an address in the file to get one in memory; zero if it is not relocatable.
    base: usize,
    segments: Vec<Segment>,
    dynamic: Option<Range<usize>>,
    notes: Vec<Note>,
    build_id: OnceLock<BuildId>,
}

/// One loaded part of the image.
#[derive(Debug)]
struct Segment {
    memory: Range<usize>,
    readable: bool,
    writable: bool,
    executable: bool,
}

/// A table of notes, and how its entries are padded.
#[derive(Debug)]
struct Note {
    memory: Range<usize>,
    align: usize,
}

impl Image {
    /// Tells whether the address lies anywhere in the main program.
    pub(crate) fn contains(&self, address: usize) -> bool {
        self.segments.iter().any(|s| s.memory.contains(&address))
    }

    /// Tells whether the address lies in the main program's code.
    pub(crate) fn contains_code(&self, address: usize) -> bool {
        let mut code = self.segments.iter().filter(|s| s.executable);
        code.any(|s| s.memory.contains(&address))
    }

    /// Says where an address lies relative to the image, which is the same in every process of
    /// this build.
    pub(crate) fn offset(&self, address: usize) -> Option<u64> {
        self.contains(address)
            .then(|| address.wrapping_sub(self.base) as u64)
    }

    /// The same for an address of code, and for nothing else.
    pub(crate) fn offset_of_code(&self, address: usize) -> Option<u64> {
        self.offset(address).filter(|_| self.contains_code(address))
    }

    /// Finds the address in this process that another one named by its offset. An offset that does
    /// not lie in the code is refused.
    pub(crate) fn code_at(&self, offset: u64) -> Option<usize> {
        let address = self.base.wrapping_add(usize::try_from(offset).ok()?);
        self.contains_code(address).then_some(address)
    }

    /// Returns what tells this build from every other one.
    pub(crate) fn build_id(&self) -> &BuildId {
        self.build_id.get_or_init(|| {
            self.linker_id()
                .unwrap_or_else(|| BuildId::hash(self.code_bytes()))
        })
    }

    /// Finds the array of constructors that libc runs before `main`.
    ///
    /// The dynamic section names it. A static program without relocations has none, and there the
    /// section table of the file is read, which `strip` leaves in place.
    pub(crate) fn init_array(&self) -> Option<Range<usize>> {
        let array = match &self.dynamic {
            Some(dynamic) => self.init_array_of(dynamic.clone()),
            None => self.init_array_in_file(),
        }?;
        let inside = array.is_empty() || self.segment_around(&array)?.readable;
        (inside && array.start % size_of::<usize>() == 0).then_some(array)
    }

    fn of_this_process() -> Self {
        let headers = program_headers();
        let base = load_base(headers);
        let memory = |h: &ProgramHeader| {
            let start = base.wrapping_add(h.p_vaddr as usize);
            start..start.wrapping_add(h.p_memsz as usize)
        };
        let of_kind = |kind| headers.iter().filter(move |h| h.p_type == kind);
        Image {
            base,
            segments: of_kind(libc::PT_LOAD)
                .map(|h| Segment {
                    memory: memory(h),
                    readable: h.p_flags & libc::PF_R != 0,
                    writable: h.p_flags & libc::PF_W != 0,
                    executable: h.p_flags & libc::PF_X != 0,
                })
                .collect(),
            dynamic: of_kind(libc::PT_DYNAMIC).map(memory).next(),
            notes: of_kind(libc::PT_NOTE)
                .map(|h| Note {
                    memory: memory(h),
                    align: (h.p_align as usize).max(4),
                })
                .collect(),
            build_id: OnceLock::new(),
        }
    }

    fn init_array_of(&self, dynamic: Range<usize>) -> Option<Range<usize>> {
        self.segment_around(&dynamic).filter(|s| s.readable)?;
        let count = dynamic.len() / size_of::<[usize; 2]>();
        // SAFETY: the range lies in one readable segment of the main program (checked above),
        // which stays mapped for the life of the process; the linker aligns the dynamic section to
        // a word and fills it with pairs of words; the loader wrote to it before it ran any code
        // of the program, and nobody does after that.
        let entries = unsafe { slice::from_raw_parts(dynamic.start as *const [usize; 2], count) };
        let entry = |tag| entries.iter().find(|e| e[0] == tag).map(|e| e[1]);
        let start = self.base.wrapping_add(entry(DT_INIT_ARRAY)?);
        Some(start..start.checked_add(entry(DT_INIT_ARRAYSZ)?)?)
    }

    fn init_array_in_file(&self) -> Option<Range<usize>> {
        let file = File::open("/proc/self/exe").ok()?;
        let header: FileHeader = read_at(&file, 0)?;
        let found = (0..u64::from(header.e_shnum)).find_map(|n| {
            let place = n.checked_mul(u64::from(header.e_shentsize))?;
            let section: SectionHeader = read_at(&file, place.checked_add(header.e_shoff)?)?;
            (section.sh_type == SHT_INIT_ARRAY).then_some(section)
        })?;
        let start = self.base.wrapping_add(found.sh_addr as usize);
        Some(start..start.checked_add(found.sh_size as usize)?)
    }

    fn linker_id(&self) -> Option<BuildId> {
        self.notes.iter().find_map(|note| {
            let segment = self.segment_around(&note.memory)?;
            let bytes = segment.bytes(note.memory.clone())?;
            BuildId::in_notes(bytes, note.align)
        })
    }

    fn code_bytes(&self) -> impl Iterator<Item = &'static [u8]> {
        let code = self.segments.iter().filter(|s| s.executable);
        code.filter_map(|s| s.bytes(s.memory.clone()))
    }

    fn segment_around(&self, range: &Range<usize>) -> Option<&Segment> {
        let holds = |s: &&Segment| s.memory.start <= range.start && range.end <= s.memory.end;
        self.segments.iter().find(holds)
    }
}

impl Segment {
    /// The bytes of a part of this segment, if it can be read and nobody writes to it.
    fn bytes(&self, part: Range<usize>) -> Option<&'static [u8]> {
        let inside = self.memory.start <= part.start && part.end <= self.memory.end;
        if !inside || !self.readable || self.writable || part.is_empty() {
            return None;
        }
        // SAFETY: the part lies in a segment of the main program (checked above), which is mapped
        // for the life of the process, can be read, and is never written to.
        Some(unsafe { slice::from_raw_parts(part.start as *const u8, part.len()) })
    }
}

fn program_headers() -> &'static [ProgramHeader] {
    // SAFETY: `getauxval` only looks a number up.
    let (table, count) = unsafe {
        (
            libc::getauxval(libc::AT_PHDR),
            libc::getauxval(libc::AT_PHNUM),
        )
    };
    if table == 0 {
        return &[];
    }
    // SAFETY: the kernel (or the loader, run by hand) says that the program's header table lies
    // there with so many entries; it is part of the image, mapped read-only for good, and aligned
    // as the format demands.
    unsafe { slice::from_raw_parts(table as *const ProgramHeader, count as usize) }
}

/// Finds what was added to the addresses in the file.
fn load_base(headers: &[ProgramHeader]) -> usize {
    let table = headers.as_ptr() as usize;
    let entry = |fits: fn(&ProgramHeader) -> bool| headers.iter().find(|h| fits(h));
    if let Some(own) = entry(|h| h.p_type == libc::PT_PHDR) {
        return table.wrapping_sub(own.p_vaddr as usize);
    }
    // GNU ld leaves the table's own entry out of static programs. There the segment that begins
    // with the file holds the file's header, and linkers put the table right behind that.
    match entry(|h| h.p_type == libc::PT_LOAD && h.p_offset == 0) {
        Some(first) => table
            .wrapping_sub(size_of::<FileHeader>())
            .wrapping_sub(first.p_vaddr as usize),
        None => 0,
    }
}

/// A record of an ELF file: plain numbers, for which any bytes will do.
trait Record {}
impl Record for FileHeader {}
impl Record for SectionHeader {}

fn read_at<T: Record>(file: &File, place: u64) -> Option<T> {
    let mut bytes = vec![0; size_of::<T>()];
    file.read_exact_at(&mut bytes, place).ok()?;
    // SAFETY: the buffer holds as many bytes as the record has, the read needs no alignment, and
    // every pattern of bytes is a value of the plain integers that a `Record` is made of.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

const DT_INIT_ARRAY: usize = 25;
const DT_INIT_ARRAYSZ: usize = 27;
const SHT_INIT_ARRAY: u32 = 14;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU8;

    use super::*;

    fn address_of(f: fn()) -> usize {
        f as usize
    }

    fn here() {}

    #[test]
    fn a_function_of_this_program_is_found_again_by_its_offset() {
        let address = address_of(here);
        let offset = main_image().offset_of_code(address).expect("our own code");
        assert_eq!(main_image().code_at(offset), Some(address));
    }

    #[test]
    fn data_is_in_the_image_but_is_no_code() {
        static DATA: AtomicU8 = AtomicU8::new(7);
        let address = &raw const DATA as usize;
        assert!(main_image().contains(address));
        assert!(!main_image().contains_code(address));
    }

    #[test]
    #[cfg(not(target_feature = "crt-static"))]
    fn a_shared_library_is_not_in_the_image() {
        // A function's own name may stand for a jump table of ours; what the loader finds does not.
        // SAFETY: the name is a string that ends in zero.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"qsort".as_ptr()) };
        assert!(!found.is_null());
        assert!(!main_image().contains(found as usize));
        assert!(main_image().offset_of_code(found as usize).is_none());
    }

    #[test]
    fn the_heap_and_the_stack_are_not_in_the_image() {
        let (boxed, local) = (Box::new(1_u8), 2_u8);
        assert!(!main_image().contains(&raw const *boxed as usize));
        assert!(!main_image().contains(&raw const local as usize));
    }

    #[test]
    fn an_offset_outside_the_code_is_refused() {
        static DATA: AtomicU8 = AtomicU8::new(7);
        let data = main_image().offset(&raw const DATA as usize);
        assert_eq!(main_image().code_at(data.expect("our own data")), None);
        assert_eq!(main_image().code_at(u64::MAX), None);
    }

    #[test]
    fn the_build_id_is_stable_and_prints_as_hex() {
        let id = main_image().build_id();
        assert_eq!(id, &Image::of_this_process().build_id().clone());
        let text = id.to_string();
        assert!(text.len() >= 32 && text.bytes().all(|b| b.is_ascii_hexdigit()));
    }

    #[test]
    fn the_constructors_found_both_ways_are_the_same() {
        let image = main_image();
        let array = image.init_array().expect("libc's own at least");
        assert!(!array.is_empty());
        assert_eq!(image.init_array_in_file(), Some(array));
    }
}
