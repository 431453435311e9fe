"""A Hugging Face model folder examined before work starts: its files, its weights' headers, its tokenizer.

Nothing here reads a weight. Everything is done the way loading will do it (safetensors opens the files, transformers
builds the model without memory for its weights), so that what loads is never refused.
"""
