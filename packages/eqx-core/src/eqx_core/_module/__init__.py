"""The Module: class creation, construction, flattening, bound methods."""

from ._abstract import AbstractClassVar as AbstractClassVar, AbstractVar as AbstractVar
from ._borrow import borrow_attributes as borrow_attributes
from ._bound import BoundMethod as BoundMethod, Partial as Partial
from ._field import field as field, static_field as static_field
from ._module import Module as Module, ModuleMeta as ModuleMeta, StrictConfig as StrictConfig
from ._static import Static as Static
from ._update_wrapper import module_update_wrapper as module_update_wrapper
