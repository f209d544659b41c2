// The one list of kernels. `build.rs` compiles these files, the loader looks these entry points up, the emulator's build
// script compiles the same files for the host, and a test holds the list to what the files define.

/// One `.cu` file of this folder.
#[derive(Debug)]
pub struct File {
    /// Without the ending: also the name of the operation's file in `src/cuda/`.
    pub name: &'static str,
    /// What it defines.
    pub kernels: &'static [Kernel],
    /// What nvcc is given besides what all files are compiled with.
    pub flags: &'static [&'static str],
    /// The only architectures that it is for, such as `sm_90a`; none named: all that are built.
    pub architectures: &'static [&'static str],
}

/// A kernel. Its entry points are called `NAME_ELEMENT`.
#[derive(Debug)]
pub struct Kernel {
    /// What all its entry points begin with.
    pub name: &'static str,
    /// The element types that it is instantiated for.
    pub elements: &'static [&'static str],
    /// The types of its arguments, as Rust writes them; `E` is the element type.
    pub args: &'static [&'static str],
    /// What its machine code must hold: `tests/machine_code.rs` looks.
    pub uses: &'static [Uses],
}

/// Instructions that make a kernel fast, and that a compiler leaves out without a word where they do not fit.
#[derive(Debug)]
pub enum Uses {
    /// Products on tensor cores; of f32 there are none.
    TensorCores,
    /// `ldmatrix`, which hands tensor cores their operands; of f32 there are none.
    MatrixLoads,
    /// Copies to shared memory that pass no register.
    AsyncCopies,
    /// Loads of 16 bytes.
    WideLoads,
    /// Hopper's products of a warpgroup: `wgmma`.
    WarpgroupProducts,
    /// Hopper's copies of boxes of a tensor, and the barriers that they report to.
    TensorCopies,
    /// Hopper's moving of registers from threads that ask for tiles to those that multiply: `setmaxnreg`.
    RegisterTransfer,
}

/// The compute types.
pub const ELEMENTS: &[&str] = &["f32", "f16", "bf16"];
/// The type of latents.
pub const LATENTS: &[&str] = &["f32"];

/// The types that tensor cores take.
const HALVES: &[&str] = &["f16", "bf16"];

/// The one architecture that has Hopper's own instructions.
const HOPPER: &[&str] = &["sm_90a"];

/// Every file.
pub const FILES: &[File] = &[
    File {
        name: "attention",
        kernels: &[
            attention("attention_d32", HALVES),
            attention("attention_d40", HALVES),
            attention("attention_d64", HALVES),
            attention("attention_d80", HALVES),
            attention("attention_d128", HALVES),
            attention("attention_d160", HALVES),
        ],
        flags: &[],
        architectures: &[],
    },
    File {
        name: "attention_f32",
        kernels: &[
            attention("attention_d32", &["f32"]),
            attention("attention_d40", &["f32"]),
            attention("attention_d64", &["f32"]),
            attention("attention_d80", &["f32"]),
            attention("attention_d128", &["f32"]),
            attention("attention_d160", &["f32"]),
        ],
        flags: &[],
        architectures: &[],
    },
    File {
        name: "attention_hopper",
        kernels: &[
            attention_hopper("attention_hopper_d40"),
            attention_hopper("attention_hopper_d64"),
            attention_hopper("attention_hopper_d80"),
            attention_hopper("attention_hopper_d160"),
        ],
        flags: &[],
        architectures: HOPPER,
    },
    File {
        name: "blend",
        kernels: &[Kernel {
            name: "blend",
            elements: LATENTS,
            args: &["*const f32", "*const f32", "*const f32", "*mut f32", "u32", "u32", "u32", "u32", "u32"],
            uses: &[Uses::WideLoads],
        }],
        flags: &[],
        architectures: &[],
    },
    File {
        name: "combine",
        kernels: &[Kernel {
            name: "combine",
            elements: LATENTS,
            args: &["Terms", "*mut f32", "u32"],
            uses: &[Uses::WideLoads],
        }],
        flags: &[],
        architectures: &[],
    },
    File {
        name: "concat",
        kernels: &[Kernel {
            name: "concat",
            elements: ELEMENTS,
            args: &["*const E", "*const E", "*mut E", "u32", "u32", "u32", "u32"],
            uses: &[Uses::WideLoads],
        }],
        flags: &[],
        architectures: &[],
    },
    File {
        name: "conv2d",
        kernels: &[
            product("conv2d_128x128", &["Conv2d"]),
            product("conv2d_128x64", &["Conv2d"]),
            product("conv2d_64x64", &["Conv2d"]),
        ],
        flags: &[],
        architectures: &[],
    },
    File {
        name: "enter",
        kernels: &[Kernel {
            name: "enter",
            elements: ELEMENTS,
            args: &["*const f32", "*mut E", "f32", "u32", "u32", "u32", "u32", "u32", "u32"],
            uses: &[],
        }],
        flags: &[],
        architectures: &[],
    },
    File {
        name: "group_norm",
        kernels: &[
            Kernel {
                name: "group_norm",
                elements: ELEMENTS,
                args: &["*const E", "*const E", "*const E", "*mut E", "Groups"],
                uses: &[Uses::AsyncCopies],
            },
            Kernel {
                name: "group_norm_moments",
                elements: ELEMENTS,
                args: &["*const E", "*mut Moments", "Groups"],
                uses: &[],
            },
            Kernel {
                name: "group_norm_apply",
                elements: ELEMENTS,
                args: &["*const E", "*const E", "*const E", "*const Moments", "*mut E", "Groups"],
                uses: &[Uses::WideLoads],
            },
        ],
        flags: &[],
        architectures: &[],
    },
    File {
        name: "inject",
        kernels: &[
            Kernel {
                name: "inject_normals",
                elements: LATENTS,
                args: &["Terms", "Normals", "*mut f32", "u32", "u32"],
                uses: &[Uses::WideLoads],
            },
            Kernel {
                name: "inject_path",
                elements: LATENTS,
                args: &["Terms", "Path", "*mut f32", "u32", "u32"],
                uses: &[Uses::WideLoads],
            },
        ],
        flags: &[],
        architectures: &[],
    },
    File {
        name: "layer_norm",
        kernels: &[Kernel {
            name: "layer_norm",
            elements: ELEMENTS,
            args: &["*const E", "*const E", "*const E", "*mut E", "u32", "u32", "f32"],
            uses: &[Uses::WideLoads],
        }],
        flags: &[],
        architectures: &[],
    },
    File {
        name: "leave",
        kernels: &[Kernel {
            name: "leave",
            elements: ELEMENTS,
            args: &["*const E", "*mut f32", "u32", "u32", "u32"],
            uses: &[],
        }],
        flags: &[],
        architectures: &[],
    },
    File {
        name: "linear",
        kernels: &[
            product("linear_128x128", &["Linear"]),
            product("linear_128x64", &["Linear"]),
            product("linear_64x64", &["Linear"]),
        ],
        flags: &[],
        architectures: &[],
    },
    File {
        name: "product_hopper",
        kernels: &[
            product_hopper("product_hopper_128x64", &[Uses::WarpgroupProducts, Uses::TensorCopies]),
            product_hopper("product_hopper_128x128", &[Uses::WarpgroupProducts, Uses::TensorCopies]),
            product_hopper(
                "product_hopper_128x256",
                &[Uses::WarpgroupProducts, Uses::TensorCopies, Uses::RegisterTransfer],
            ),
        ],
        flags: &[],
        architectures: HOPPER,
    },
    File {
        name: "split_k",
        kernels: &[Kernel {
            name: "split_k",
            elements: ELEMENTS,
            args: &["Epilogue", "u32"],
            uses: &[Uses::WideLoads],
        }],
        flags: &[],
        architectures: &[],
    },
];

/// Attention with heads of up to so many channels.
const fn attention(name: &'static str, elements: &'static [&'static str]) -> Kernel {
    Kernel {
        name,
        elements,
        args: &["*const E", "*const E", "*const E", "*mut E", "Extents"],
        uses: &[Uses::TensorCores, Uses::MatrixLoads, Uses::AsyncCopies],
    }
}

/// The same, of tiles that tensor copies bring.
const fn attention_hopper(name: &'static str) -> Kernel {
    const USES: &[Uses] = &[Uses::WarpgroupProducts, Uses::TensorCopies];
    Kernel {
        name,
        elements: HALVES,
        args: &["TensorMap", "TensorMap", "TensorMap", "*mut E", "Extents"],
        uses: USES,
    }
}

/// A product of tiles that `cp.async` brings.
const fn product(name: &'static str, args: &'static [&'static str]) -> Kernel {
    const USES: &[Uses] = &[Uses::TensorCores, Uses::MatrixLoads, Uses::AsyncCopies, Uses::WideLoads];
    Kernel { name, elements: ELEMENTS, args, uses: USES }
}

/// A product of tiles that tensor copies bring.
const fn product_hopper(name: &'static str, uses: &'static [Uses]) -> Kernel {
    Kernel { name, elements: HALVES, args: &["TensorMap", "TensorMap", "Products"], uses }
}
