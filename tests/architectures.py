"""Architectures of transformers, tiny and with random weights: what real models do, without a network or a wait.

Each is the class that users load, made from a configuration of its own with two layers and a width of a few dozen.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: nothing here may ask the network

Inputs = dict[str, torch.Tensor]

VOCABULARY = 100
TOKENS = 8


class Architecture(NamedTuple):
    """A class of transformers, what makes it small, and what it is called with."""

    model: str
    settings: dict[str, Any]
    inputs: Callable[[], Inputs]


def build(architecture: Architecture) -> nn.Module:
    """The model with random weights; the same ones whenever torch's seed is the same."""
    import transformers

    model_class = getattr(transformers, architecture.model)
    model: nn.Module = model_class(model_class.config_class(**architecture.settings))
    return model


def tokens() -> Inputs:
    """Two rows of token numbers, (2, 8)."""
    return {"input_ids": torch.randint(5, VOCABULARY, (2, TOKENS))}


def many_tokens() -> Inputs:
    """Two longer rows, (2, 16)."""
    return {"input_ids": torch.randint(5, VOCABULARY, (2, 2 * TOKENS))}


def masked_tokens() -> Inputs:
    """The same with padding at the end of the second row."""
    mask = torch.ones(2, TOKENS, dtype=torch.long)
    mask[1, -3:] = 0
    return {**tokens(), "attention_mask": mask}


def pairs_of_tokens() -> Inputs:
    """What an encoder and a decoder are given."""
    return {**tokens(), "decoder_input_ids": torch.randint(5, VOCABULARY, (2, 5))}


def image(size: int = 32) -> Callable[[], Inputs]:
    """Two pictures, (2, 3, size, size)."""
    return lambda: {"pixel_values": torch.rand(2, 3, size, size)}


def tokens_and_image(size: int = 32) -> Callable[[], Inputs]:
    """Two texts, each with its picture."""
    return lambda: {**masked_tokens(), **image(size)()}


def sound(samples: int = 2000) -> Callable[[], Inputs]:
    """A waveform, (1, samples)."""
    return lambda: {"input_values": torch.randn(1, samples)}


ENCODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
DECODER = {**ENCODER, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
EXPERTS = {**DECODER, "moe_intermediate_size": 32, "num_experts_per_tok": 2}
GPT = {
    "vocab_size": VOCABULARY,
    "n_positions": 64,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SEQ2SEQ = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}
PATCHES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
STAGES = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 2]}
WAVES = {
    "vocab_size": 32,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": [16, 16, 16],
    "conv_stride": [5, 4, 2],
    "conv_kernel": [10, 8, 3],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "num_codevectors_per_group": 10,
    "codevector_dim": 16,
    "proj_codevector_dim": 16,
}
TWO_TOWERS = {
    "text_config": {**ENCODER, "bos_token_id": 1, "eos_token_id": 2},
    "vision_config": PATCHES,
    "projection_dim": 16,
}

# fmt: off
# A table: one architecture an entry, its settings wrapped and not one a line.

TEXT = [
    Architecture("BertForSequenceClassification", ENCODER, masked_tokens),
    Architecture("RobertaForMaskedLM", ENCODER, masked_tokens),
    Architecture("DistilBertForSequenceClassification", {"vocab_size": VOCABULARY, "dim": 32, "hidden_dim": 64,
        "n_layers": 2, "n_heads": 4, "max_position_embeddings": 64}, masked_tokens),
    Architecture("AlbertForMaskedLM", {**ENCODER, "embedding_size": 16, "num_hidden_groups": 1}, tokens),
    Architecture("ElectraForPreTraining", {**ENCODER, "embedding_size": 16}, tokens),
    Architecture("MPNetModel", ENCODER, masked_tokens),
    Architecture("ConvBertModel", {**ENCODER, "embedding_size": 32, "head_ratio": 2, "conv_kernel_size": 3}, tokens),
    Architecture("DebertaModel", {**ENCODER, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
        masked_tokens),
    Architecture("DebertaV2Model", {**ENCODER, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
        masked_tokens),
    Architecture("LongformerModel", {**ENCODER, "attention_window": 4}, masked_tokens),
    Architecture("BigBirdModel", {**ENCODER, "attention_type": "block_sparse", "block_size": 2,
        "num_random_blocks": 1}, many_tokens),
    Architecture("FNetModel", {**ENCODER, "tpu_short_seq_length": TOKENS}, tokens),
    Architecture("SqueezeBertModel", {**ENCODER, "embedding_size": 32}, tokens),
    Architecture("NystromformerModel", {**ENCODER, "num_landmarks": 4, "segment_means_seq_len": 8}, tokens),
    Architecture("RoFormerModel", {**ENCODER, "embedding_size": 32}, tokens),
    Architecture("MobileBertModel", {**ENCODER, "embedding_size": 16, "intra_bottleneck_size": 16,
        "true_hidden_size": 16}, tokens),
    Architecture("ModernBertModel", {**ENCODER, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1,
        "eos_token_id": 2}, masked_tokens),
    Architecture("ReformerModel", {"vocab_size": VOCABULARY, "hidden_size": 32, "num_attention_heads": 2,
        "attention_head_size": 16, "feed_forward_size": 32, "attn_layers": ["local", "lsh"], "axial_pos_shape": [2,
        4], "axial_pos_embds_dim": [16, 16], "lsh_attn_chunk_length": 4, "local_attn_chunk_length": 4,
        "num_buckets": 2, "num_hashes": 1, "is_decoder": False, "hash_seed": 0, "max_position_embeddings": 64},
        tokens),
    Architecture("FunnelModel", {"vocab_size": VOCABULARY, "block_sizes": [1, 1], "num_decoder_layers": 1,
        "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 64}, tokens),
    Architecture("XLNetModel", {"vocab_size": VOCABULARY, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64},
        tokens),
    Architecture("XLMModel", {"n_words": VOCABULARY, "emb_dim": 32, "n_layers": 2, "n_heads": 4,
        "max_position_embeddings": 64}, tokens),
    Architecture("CanineModel", {**ENCODER, "local_transformer_stride": 4, "num_hash_buckets": 100}, tokens),
    Architecture("GPT2LMHeadModel", GPT, tokens),
    Architecture("OpenAIGPTLMHeadModel", GPT, tokens),
    Architecture("GPTJForCausalLM", {**GPT, "rotary_dim": 4}, tokens),
    Architecture("GPTBigCodeForCausalLM", GPT, tokens),
    Architecture("CodeGenForCausalLM", {**GPT, "rotary_dim": 4, "n_ctx": 64}, tokens),
    Architecture("GPTNeoForCausalLM", {"vocab_size": VOCABULARY, "hidden_size": 32, "num_layers": 2, "num_heads": 4,
        "attention_types": [[["global", "local"], 1]], "bos_token_id": 1, "eos_token_id": 2}, tokens),
    Architecture("GPTNeoXForCausalLM", {**ENCODER, "bos_token_id": 1, "eos_token_id": 2}, tokens),
    Architecture("LlamaForCausalLM", DECODER, masked_tokens),
    Architecture("MistralForCausalLM", {**DECODER, "sliding_window": 4}, tokens),
    Architecture("MixtralForCausalLM", {**DECODER, "num_local_experts": 4, "num_experts_per_tok": 2}, tokens),
    Architecture("Qwen2ForCausalLM", DECODER, tokens),
    Architecture("Qwen2MoeForCausalLM", {**EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 32}, tokens),
    Architecture("Qwen3ForCausalLM", {**DECODER, "head_dim": 8}, tokens),
    Architecture("PhiForCausalLM", DECODER, tokens),
    Architecture("Phi3ForCausalLM", DECODER, tokens),
    Architecture("GemmaForCausalLM", {**DECODER, "head_dim": 8}, tokens),
    Architecture("Gemma2ForCausalLM", {**DECODER, "head_dim": 8, "sliding_window": 4}, tokens),
    Architecture("Gemma3ForCausalLM", {**DECODER, "head_dim": 8, "sliding_window": 4}, tokens),
    Architecture("FalconForCausalLM", {**DECODER, "new_decoder_architecture": True, "num_kv_heads": 2}, tokens),
    Architecture("BloomForCausalLM", {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4,
        "bos_token_id": 1, "eos_token_id": 2}, tokens),
    Architecture("OPTForCausalLM", {**ENCODER, "ffn_dim": 64, "word_embed_proj_dim": 16,
        "do_layer_norm_before": True}, tokens),
    Architecture("OlmoForCausalLM", DECODER, tokens),
    Architecture("Olmo2ForCausalLM", DECODER, tokens),
    Architecture("CohereForCausalLM", DECODER, tokens),
    Architecture("StableLmForCausalLM", DECODER, tokens),
    Architecture("Starcoder2ForCausalLM", DECODER, tokens),
    Architecture("GraniteForCausalLM", DECODER, tokens),
    Architecture("GlmForCausalLM", {**DECODER, "head_dim": 8}, tokens),
    Architecture("DeepseekV3ForCausalLM", {**EXPERTS, "num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 2,
        "topk_group": 1, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
        "v_head_dim": 8, "first_k_dense_replace": 1}, tokens),
    Architecture("MambaForCausalLM", {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2,
        "state_size": 4}, tokens),
    Architecture("Mamba2ForCausalLM", {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2,
        "state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 4}, tokens),
    Architecture("RwkvForCausalLM", {"vocab_size": VOCABULARY, "hidden_size": 32, "attention_hidden_size": 32,
        "num_hidden_layers": 2, "context_length": 64}, tokens),
    Architecture("RecurrentGemmaForCausalLM", {**DECODER, "lru_width": 32, "attention_window_size": 8,
        "num_hidden_layers": 3}, tokens),
    Architecture("T5ForConditionalGeneration", T5, pairs_of_tokens),
    Architecture("MT5ForConditionalGeneration", T5, pairs_of_tokens),
    Architecture("LongT5Model", {**T5, "encoder_attention_type": "transient-global", "local_radius": 3,
        "global_block_size": 4}, pairs_of_tokens),
    Architecture("SwitchTransformersModel", {**T5, "num_experts": 2, "num_sparse_encoder_layers": 1,
        "num_sparse_decoder_layers": 1}, pairs_of_tokens),
    Architecture("BartForConditionalGeneration", SEQ2SEQ, pairs_of_tokens),
    Architecture("MBartForConditionalGeneration", SEQ2SEQ, pairs_of_tokens),
    Architecture("PegasusForConditionalGeneration", SEQ2SEQ, pairs_of_tokens),
    Architecture("MarianMTModel", SEQ2SEQ, pairs_of_tokens),
    Architecture("LEDModel", {**SEQ2SEQ, "attention_window": 4, "max_encoder_position_embeddings": 64,
        "max_decoder_position_embeddings": 64}, pairs_of_tokens),
    Architecture("M2M100Model", SEQ2SEQ, pairs_of_tokens),
    Architecture("BlenderbotModel", SEQ2SEQ, pairs_of_tokens),
    Architecture("ProphetNetModel", {"vocab_size": VOCABULARY, "hidden_size": 32, "num_encoder_layers": 2,
        "num_decoder_layers": 2, "num_encoder_attention_heads": 4, "num_decoder_attention_heads": 4,
        "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64, "pad_token_id": 0},
        pairs_of_tokens),
]

VISION = [
    Architecture("ViTForImageClassification", PATCHES, image()),
    Architecture("DeiTForImageClassification", PATCHES, image()),
    Architecture("BeitForImageClassification", PATCHES, image()),
    Architecture("Data2VecVisionModel", PATCHES, image()),
    Architecture("Dinov2Model", PATCHES, image()),
    Architecture("DINOv3ViTModel", PATCHES, image()),
    Architecture("SwinForImageClassification", {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1, 1],
        "num_heads": [2, 4], "window_size": 4}, image()),
    Architecture("Swinv2Model", {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1, 1],
        "num_heads": [2, 4], "window_size": 4}, image()),
    Architecture("ConvNextForImageClassification", {"hidden_sizes": [16, 32], "depths": [1, 2], "num_stages": 2},
        image()),
    Architecture("ConvNextV2Model", {"hidden_sizes": [16, 32], "depths": [1, 2], "num_stages": 2}, image()),
    Architecture("ResNetForImageClassification", STAGES, image()),
    Architecture("RegNetForImageClassification", {**STAGES, "groups_width": 8}, image()),
    Architecture("BitModel", {**STAGES, "num_groups": 4}, image()),
    Architecture("MobileNetV1Model", {"image_size": 32, "depth_multiplier": 0.25, "min_depth": 4}, image()),
    Architecture("MobileNetV2ForImageClassification", {"image_size": 32, "depth_multiplier": 0.25, "min_depth": 4},
        image()),
    Architecture("MobileViTForImageClassification", {"image_size": 32, "hidden_sizes": [16, 20, 24],
        "neck_hidden_sizes": [4, 8, 8, 16, 16, 24, 32], "num_attention_heads": 4, "patch_size": 2}, image(64)),
    Architecture("EfficientNetForImageClassification", {"image_size": 32, "width_coefficient": 0.25,
        "depth_coefficient": 0.25, "hidden_dim": 320}, image()),
    Architecture("SegformerForSemanticSegmentation", {"depths": [1, 1], "num_encoder_blocks": 2, "sr_ratios": [2, 1],
        "hidden_sizes": [16, 32], "patch_sizes": [7, 3], "strides": [4, 2], "num_attention_heads": [1, 2],
        "mlp_ratios": [2, 2], "decoder_hidden_size": 16}, image()),
    Architecture("PoolFormerForImageClassification", {"depths": [1, 1], "hidden_sizes": [16, 32],
        "num_encoder_blocks": 2, "patch_sizes": [7, 3], "strides": [4, 2], "padding": [2, 1]}, image()),
    Architecture("LevitForImageClassification", {"image_size": 64, "hidden_sizes": [16, 16, 16],
        "num_attention_heads": [2, 2, 2], "depths": [1, 1, 1], "key_dim": [8, 8, 8]}, image(64)),
    Architecture("CvtModel", {"embed_dim": [16, 32, 32], "num_heads": [1, 2, 2], "depth": [1, 2, 3]}, image()),
    Architecture("PvtModel", {"image_size": 32, "num_encoder_blocks": 2, "depths": [1, 1],
        "sequence_reduction_ratios": [2, 1], "hidden_sizes": [16, 32], "patch_sizes": [4, 2], "strides": [4, 2],
        "num_attention_heads": [1, 2], "mlp_ratios": [2, 2]}, image()),
    Architecture("FocalNetModel", {"image_size": 32, "embed_dim": 16, "hidden_sizes": [16, 32], "depths": [1, 1],
        "focal_levels": [2, 2], "focal_windows": [3, 3]}, image()),
    Architecture("ViTMAEModel", PATCHES, image()),
    Architecture("YolosModel", {**PATCHES, "image_size": [32, 32], "num_detection_tokens": 4}, image()),
    Architecture("DPTForDepthEstimation", {**PATCHES, "num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3],
        "neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 8}, image()),
    Architecture("HieraModel", {"embed_dim": 16, "image_size": [32, 32], "patch_stride": [4, 4], "patch_size": [7,
        7], "patch_padding": [3, 3], "depths": [1, 1], "num_heads": [1, 2], "query_stride": [2, 2],
        "num_query_pool": 1, "masked_unit_size": [4, 4], "masked_unit_attention": [True, False],
        "embed_dim_multiplier": 2.0}, image()),
    Architecture("SamVisionModel", {**PATCHES, "output_channels": 16, "window_size": 2, "global_attn_indexes": [1],
        "num_pos_feats": 8, "mlp_dim": 64}, image()),
]

SOUND = [
    Architecture("Wav2Vec2ForCTC", WAVES, sound()),
    Architecture("HubertModel", WAVES, sound()),
    Architecture("WavLMModel", WAVES, sound()),
    Architecture("UniSpeechModel", WAVES, sound()),
    Architecture("UniSpeechSatModel", WAVES, sound()),
    Architecture("SEWModel", {**WAVES, "squeeze_factor": 2}, sound()),
    Architecture("SEWDModel", {**WAVES, "squeeze_factor": 2, "position_buckets": 8, "max_position_embeddings": 64},
        sound()),
    Architecture("Data2VecAudioModel", {**WAVES, "num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 3}, sound()),
    Architecture("Wav2Vec2ConformerModel", WAVES, sound()),
    Architecture("Wav2Vec2BertModel", {**WAVES, "feature_projection_input_dim": 16},
        lambda: {"input_features": torch.randn(1, 20, 16)}),
    Architecture("WhisperForConditionalGeneration", {**SEQ2SEQ, "num_mel_bins": 8, "max_source_positions": 16,
        "max_target_positions": 16}, lambda: {"input_features": torch.randn(1, 8, 32),
        "decoder_input_ids": torch.randint(5, VOCABULARY, (1, 4))}),
    Architecture("Speech2TextModel", {**SEQ2SEQ, "num_conv_layers": 2, "conv_kernel_sizes": [5, 5],
        "conv_channels": 16, "input_feat_per_channel": 8, "max_source_positions": 64, "max_target_positions": 64},
        lambda: {"input_features": torch.randn(1, 24, 8), "decoder_input_ids": torch.randint(5, VOCABULARY, (1, 4))}),
    Architecture("ASTForAudioClassification", {**PATCHES, "max_length": 24, "num_mel_bins": 16,
        "frequency_stride": 4, "time_stride": 4}, lambda: {"input_values": torch.randn(1, 24, 16)}),
    Architecture("EncodecModel", {"num_filters": 4, "hidden_size": 16, "codebook_dim": 16, "codebook_size": 32,
        "upsampling_ratios": [4, 2], "num_lstm_layers": 1}, lambda: {"input_values": torch.randn(1, 1, 400)}),
]

SEVERAL = [
    Architecture("CLIPModel", TWO_TOWERS, tokens_and_image()),
    Architecture("CLIPVisionModel", PATCHES, image()),
    Architecture("SiglipModel", {"text_config": {**ENCODER, "projection_size": 32}, "vision_config": PATCHES},
        tokens_and_image()),
    Architecture("ChineseCLIPModel", TWO_TOWERS, tokens_and_image()),
    Architecture("AltCLIPModel", {**TWO_TOWERS, "text_config": {**ENCODER, "project_dim": 16}}, tokens_and_image()),
    Architecture("BlipModel", TWO_TOWERS, tokens_and_image()),
    Architecture("GroupViTModel", {"text_config": {**ENCODER, "bos_token_id": 1, "eos_token_id": 2},
        "vision_config": {**PATCHES, "depths": [1, 1, 1], "num_group_tokens": [8, 4, 0], "num_output_groups": [8, 4,
        0]}, "projection_dim": 16, "projection_intermediate_dim": 32}, tokens_and_image()),
    Architecture("OwlViTModel", TWO_TOWERS, tokens_and_image()),
    Architecture("ViltModel", {**ENCODER, **PATCHES}, tokens_and_image()),
    Architecture("FlavaImageModel", PATCHES, image()),
    Architecture("LlavaForConditionalGeneration", {"text_config": {**DECODER, "model_type": "llama"},
        "vision_config": {**PATCHES, "model_type": "clip_vision_model"}, "image_token_index": 3}, tokens),
    Architecture("TimeSeriesTransformerModel", {"prediction_length": 4, "context_length": 6, "lags_sequence": [1, 2],
        "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_time_features": 1},
        lambda: {"past_values": torch.rand(2, 8), "past_time_features": torch.rand(2, 8, 1),
        "past_observed_mask": torch.ones(2, 8), "future_values": torch.rand(2, 4),
        "future_time_features": torch.rand(2, 4, 1)}),
    Architecture("DecisionTransformerModel", {"state_dim": 4, "act_dim": 2, "hidden_size": 32, "n_layer": 2,
        "n_head": 4, "max_ep_len": 32}, lambda: {"states": torch.rand(1, 4, 4), "actions": torch.rand(1, 4, 2),
        "rewards": torch.rand(1, 4, 1), "returns_to_go": torch.rand(1, 4, 1), "timesteps": torch.arange(4)[None],
        "attention_mask": torch.ones(1, 4)}),
    Architecture("PerceiverModel", {"num_latents": 4, "d_latents": 16, "d_model": 16, "num_blocks": 1,
        "num_self_attends_per_block": 2, "num_self_attention_heads": 2, "num_cross_attention_heads": 2},
        lambda: {"inputs": torch.rand(1, 6, 16)}),
]

# fmt: on

ARCHITECTURES = [*TEXT, *VISION, *SOUND, *SEVERAL]
NOT_REPEATABLE = {"ReformerModel"}  # in training it draws a fresh seed of its own: no two runs are equal
