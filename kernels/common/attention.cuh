// What the attention kernels share.
#pragma once
#include "platform.cuh"

// Sizes of one attention. Rows are tokens; `q_row` and its siblings are the elements from one to the next.
struct Extents {
  int32_t queries;
  int32_t keys;
  int32_t depth;  // channels of a head
  uint32_t q_row;
  uint32_t k_row;
  uint32_t v_row;
  uint32_t aligned;  // whether every head of every row begins at a multiple of 16 bytes, and fills such pieces
  float scale;       // log2 e / sqrt depth
};
