"""Adapters in the format of Hugging Face's PEFT, which a build converts into mlx_lm's.

`configuration` and `tensors` say what a folder holds and what it becomes, from configuration and header alone;
`converting` writes it. The names and the arithmetic are those that PEFT documents (LoraConfig, `save_pretrained`):

    base_model.model.PATH.lora_A.weight [rank, in]     ->  PATH.lora_a [in, rank]
    base_model.model.PATH.lora_B.weight [out, rank]    ->  PATH.lora_b [rank, out]
    base_model.model.PATH.lora_magnitude_vector [out]  ->  PATH.m [out]
    lora_alpha / r, or with use_rslora lora_alpha / sqrt(r)  ->  scale
"""
