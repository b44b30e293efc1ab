"""Networks that know no probability: tensor in, tensor out, with weights."""
