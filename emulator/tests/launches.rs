//! What a driver would refuse is refused, and memory is what it was said to be.

use emulator::{Device, Launch, signature};

fn launch(device: &Device, launch: Launch, args: &[&[u8]]) -> String {
    device.launch("copy_none", launch, args).expect_err("it must be refused")
}

#[test]
fn launches_that_a_driver_would_refuse() {
    let device = Device::new(80, 1);
    let pointer = device.alloc(1024).unwrap().to_ne_bytes();
    let args: [&[u8]; 2] = [&pointer, &pointer];
    let ok = Launch { grid: [1, 1, 1], block: [32, 1, 1], shared_memory: 0 };
    let with_grid = |grid| launch(&device, Launch { grid, ..ok }, &args);
    let with_block = |block| launch(&device, Launch { block, ..ok }, &args);
    assert!(with_grid([0, 1, 1]).contains("a grid of 0"));
    assert!(with_grid([1, 65536, 1]).contains("a grid of 65536 in dimension 1"));
    assert!(with_grid([1, 1, 65536]).contains("in dimension 2"));
    assert!(with_block([1025, 1, 1]).contains("a block of 1025"));
    assert!(with_block([1, 1, 65]).contains("in dimension 2"));
    assert!(with_block([512, 3, 1]).contains("1536 threads"));
    assert!(launch(&device, ok, &args[..1]).contains("takes 2 arguments, 1 were given"));
    assert!(
        launch(&device, ok, &[&pointer, &[0; 4]])
            .contains("argument 1 of copy_none is a *mut f32 of 8 bytes")
    );
    assert!(device.launch("no_such", ok, &args).unwrap_err().contains("no kernel is called no_such"));
}

#[test]
fn tensor_maps_that_a_driver_would_refuse() {
    let map = |extents: [u64; 2], stride, lengths: [u32; 2], steps: [u32; 2]| {
        emulator::tensor_map(256, &extents, &[stride], &lengths, &steps, true).map(|_| ())
    };
    assert_eq!(map([80, 9], 160, [64, 256], [1, 8]), Ok(()));
    let refused = |map: Result<(), String>, words| assert!(map.unwrap_err().contains(words), "{words}");
    refused(map([80, 0], 160, [64, 256], [1, 1]), "extents must be 1 to");
    refused(map([80, 9], 168, [64, 256], [1, 1]), "strides must be multiples of 16, got 168");
    refused(map([80, 9], 160, [64, 257], [1, 1]), "a box must be 1 to 256 long, got 257");
    refused(map([80, 9], 160, [72, 256], [1, 1]), "a swizzled box's rows have 128 bytes");
    refused(map([80, 9], 160, [64, 256], [1, 0]), "a step must be 1 to 8, got 0");
    refused(map([80, 9], 160, [64, 256], [1, 9]), "a step must be 1 to 8, got 9");
    refused(map([80, 9], 160, [64, 256], [2, 1]), "the innermost dimension's step is ignored");
}

#[test]
fn a_block_has_as_much_shared_memory_as_its_architecture_says() {
    for (capability, most) in [(75, 48 << 10), (80, 163 << 10), (86, 99 << 10), (90, 227 << 10)] {
        let device = Device::new(capability, 1);
        let x = device.alloc(1024).unwrap();
        device.copy_to(x, &[0; 1024]).unwrap();
        let y = device.alloc(1024).unwrap();
        let run = |shared_memory| {
            let launch = Launch { grid: [1, 1, 1], block: [32, 1, 1], shared_memory };
            device.launch("copy_none", launch, &[&x.to_ne_bytes(), &y.to_ne_bytes()])
        };
        assert_eq!(run(most), Ok(()), "{capability}");
        assert!(run(most + 1).unwrap_err().contains("dynamic shared memory"), "{capability}");
    }
}

#[test]
fn static_shared_memory_counts_too() {
    let device = Device::new(75, 1);
    let x = device.alloc(512).unwrap();
    device.copy_to(x, &[0; 512]).unwrap();
    let args: [&[u8]; 2] = [&x.to_ne_bytes(), &device.alloc(512).unwrap().to_ne_bytes()];
    let launch = |shared_memory| Launch { grid: [1, 1, 1], block: [128, 1, 1], shared_memory };
    assert_eq!(device.launch("reverse_none", launch((48 << 10) - 512), &args), Ok(()));
    let error = device.launch("reverse_none", launch((48 << 10) - 511), &args).unwrap_err();
    assert!(error.contains("shared memory, but a block has at most"), "{error}");
}

/// Sanitizers see neither what is unwritten nor, without ending the process, what is freed; so for the next.
#[cfg(not(sanitized))]
#[test]
fn memory_is_checked_from_the_host_too() {
    let device = Device::new(80, 1);
    let address = device.alloc(64).unwrap();
    let mut bytes = [0; 64];
    assert!(device.copy_from(address, &mut bytes).unwrap_err().contains("byte 0 of 64"));
    device.copy_to(address, &[7; 32]).unwrap();
    assert!(device.copy_from(address, &mut bytes).unwrap_err().contains("byte 32 of 64"));
    assert!(device.copy_to(address, &[0; 65]).is_err());
    assert!(device.copy_to(&raw const bytes as u64, &[0; 4]).is_err());
    device.copy_from(address, &mut bytes[..32]).unwrap();
    assert_eq!(bytes[..32], [7; 32]);

    let other = device.alloc(64).unwrap();
    device.copy_within(address, other, 64).unwrap();
    assert!(device.copy_from(other, &mut bytes).unwrap_err().contains("byte 32"));
    device.renew(address, 16).unwrap();
    assert!(device.copy_from(address, &mut bytes[..16]).is_err(), "what it held is forgotten");
    assert!(device.copy_to(address, &[0; 17]).is_err(), "it is 16 bytes long now");
    assert!(device.renew(address, 65).is_err());
    device.free(address).unwrap();
    assert!(device.copy_to(address, &[0; 4]).is_err());
    assert!(device.free(address).is_err());
}

#[cfg(not(sanitized))]
#[test]
fn a_kernel_that_uses_freed_memory_is_stopped() {
    let device = Device::new(80, 1);
    let [x, y] = [(); 2].map(|()| device.alloc(512).unwrap());
    device.copy_to(x, &[0; 512]).unwrap();
    device.free(x).unwrap();
    let launch = Launch { grid: [1, 1, 1], block: [32, 1, 1], shared_memory: 0 };
    let error = device.launch("copy_none", launch, &[&x.to_ne_bytes(), &y.to_ne_bytes()]).unwrap_err();
    assert!(error.contains("not allocated") || error.contains("out-of-bounds"), "{error}");
}

#[test]
fn signatures_are_rusts_words() {
    assert_eq!(signature("product_none").as_deref(), Some("*const f16, *const f16, *mut f32, u32"));
    assert_eq!(signature("no_such"), None);
}
