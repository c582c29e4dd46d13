"""Reach the objects of HTTP servers, clouds and the Hugging Face Hub."""
